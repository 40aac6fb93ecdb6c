"""Picks the driver of rate limits that the PC's config names.

It refuses to guess: a driver without its part of the config is a defect, as the config was checked at start.
"""

import functools

from reco3.agent.config import LimitDriver, RateLimitConfig
from reco3.agent.jobs import Job
from reco3.agent.nginx_limits import NginxDriver
from reco3.agent.rate_limits import CommandDriver, Driver, FileDriver


def driver_of(job: Job) -> Driver:
    """The driver as this job may use it: within the time limit of commands."""
    config, timeout_s = job.control.rate_limit, job.control.command_timeout_s
    if config.nginx is not None:
        return nginx_driver(config, job)
    if config.command is not None:
        run = functools.partial(job.run_argv, timeout_s=timeout_s)
        return CommandDriver(config.path, config.command, run)
    return FileDriver(config.path)


def nginx_driver(config: RateLimitConfig, job: Job) -> NginxDriver:
    """The nginx driver as this job may use it."""
    assert config.nginx is not None  # noqa: S101 - the config's own promise for this driver
    return NginxDriver(config.path, config.nginx, job.run, job.control.command_timeout_s, job.command_id, job.watch)


def enforcer_of(driver: Driver) -> str:
    """Say to whom the limit applies, for the report."""
    if driver.name is LimitDriver.NGINX:
        return "by nginx, and the workers that know it serve"
    if driver.name is LimitDriver.COMMAND:
        return "by the PC's own command, which ended well"
    return f"for whatever reads {driver.path}"
