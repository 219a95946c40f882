import gzip
import subprocess
import sys

import pytest

from mmkeras.data.tables import open_table
from mmkeras.errors import UserError


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="no.csv does not exist. Check the path"):
        open_table(str(tmp_path / "no.csv"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89HDF\r\n", "an HDF5 file, which is not supported .supported: CSV"),
        (gzip.compress(b"\x89HDF\r\n", mtime=0), "an HDF5 file"),
        (gzip.compress(b"PAR1\x15\x04", mtime=0), "compressed Parquet file. Unpack it"),
    ],
)
def test_another_kind_of_file_is_refused(tmp_path, content, message):
    (tmp_path / "data.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        open_table(tmp_path / "data.csv")


def test_text_is_read_without_pyarrow_numpy_and_pandas(tmp_path):
    (tmp_path / "data.csv").write_text("text;label\nhi;a\n")
    code = (
        "import sys, mmkeras.data.table\n"
        "from mmkeras.data.tables import open_table\n"
        f"assert list(open_table({str(tmp_path / 'data.csv')!r}).records())\n"
        "print({'pyarrow', 'numpy', 'pandas', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
