"""Changes of files."""
import os

from camws_bridge.api.watched_files import WatchedFiles


def test_a_change_is_told_once_when_it_has_come_to_rest(tmp_path):
    path = tmp_path / 'file'
    path.write_text('one')
    files = WatchedFiles([str(path), ''])
    assert not files.has_changed()
    path.write_text('other')
    assert not files.has_changed()      # it may still be written
    path.write_text('another one')
    assert not files.has_changed()
    assert files.has_changed()
    assert not files.has_changed()


def test_a_file_that_is_replaced_goes_or_comes_has_changed(tmp_path):
    path, new = tmp_path / 'file', tmp_path / 'new'
    files = WatchedFiles([str(path)])
    path.write_text('one')
    assert not files.has_changed() and files.has_changed()
    # Replaced by one of the same size and time.
    new.write_text('two')
    times = path.stat()
    os.utime(new, ns=(times.st_atime_ns, times.st_mtime_ns))
    new.replace(path)
    assert not files.has_changed() and files.has_changed()
    path.unlink()
    assert not files.has_changed() and files.has_changed()


def test_a_change_that_is_taken_back_is_none(tmp_path):
    path = tmp_path / 'file'
    files = WatchedFiles([str(path)])
    path.write_text('one')
    assert not files.has_changed()
    path.unlink()
    assert not files.has_changed() and not files.has_changed()


def test_what_has_just_been_read_is_known(tmp_path):
    path = tmp_path / 'file'
    files = WatchedFiles([str(path)])
    path.write_text('one')
    files.take_as_known()
    assert not files.has_changed() and not files.has_changed()
