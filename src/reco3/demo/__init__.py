"""What `reco3 demo` watches: a small real service of our own."""
