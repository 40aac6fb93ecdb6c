import os
import sys
from pathlib import Path

import pytest

from reco3.agent.private_files import create_private, write_private

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and links are POSIX here")


def test_a_private_file_is_its_owners_whatever_the_umask_and_the_file_before(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("old", encoding="utf-8")
    path.chmod(0o666)
    before = os.umask(0)
    try:
        write_private(path, "new", owner_like=path)
    finally:
        os.umask(before)

    assert (path.read_text(encoding="utf-8"), path.stat().st_mode & 0o777) == ("new", 0o600)
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.yaml"]


def test_a_link_that_was_laid_out_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine", encoding="utf-8")
    (tmp_path / "config.yaml.tmp").symlink_to(victim)

    write_private(tmp_path / "config.yaml", "secret", owner_like=tmp_path)

    assert victim.read_text(encoding="utf-8") == "mine"
    assert not (tmp_path / "config.yaml").is_symlink()


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root can give files away")
def test_a_file_keeps_its_owner_when_root_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("old", encoding="utf-8")
    os.chown(path, 12_345, 54_321)

    write_private(path, "new", owner_like=path)

    assert (path.stat().st_uid, path.stat().st_gid) == (12_345, 54_321)


def test_a_new_file_is_private_and_never_one_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "new"
    like = tmp_path / "like"
    like.touch(mode=0o666)

    os.close(create_private(path, like=like))

    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        create_private(path, like=like)
