import pytest

from mmkeras.config import TextConfig
from mmkeras.errors import UserError
from mmkeras.modalities.text.pieces import has_capitals, read_pieces


@pytest.fixture
def write(tmp_path):
    def call(pieces):
        path, lines = tmp_path / "vocab.txt", pieces.split()
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return str(path)

    return call


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "one piece per line"),
        ("cow [PAD] [UNK]", r"one piece per line.*'\[PAD\]' first"),
        ("[PAD] cow", r"and '\[UNK\]'"),
        ("[PAD] [UNK] cow cow", "each once"),
        ("[PAD] cow [UNK]", r"'cow' as the second piece.*'\[UNK\]' or"),
    ],
)
def test_an_unusable_vocabulary_file_is_refused(lines, message, write):
    with pytest.raises(UserError, match=f"^text.vocab_file=V .*{message}"):
        read_pieces(write(lines), "text.vocab_file=V")
    with pytest.raises(UserError, match="^V has no readable vocabulary: .*gone.txt"):
        read_pieces("gone.txt", "V")


def test_a_text_has_at_least_its_ends_and_one_piece():
    with pytest.raises(UserError, match="text.max_tokens=2.*at least 3"):
        TextConfig(encoder="lstm", tokens="wordpiece", vocab_file="v", max_tokens=2)


def test_a_vocabulary_of_a_cased_model_has_capitals():
    assert has_capitals(["cow", "##S"])
    assert not has_capitals(["[UNK]", "cow", "##s", "日", "1"])
