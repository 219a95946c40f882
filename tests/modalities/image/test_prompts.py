import numpy as np
import pytest

from mmkeras.config import ImageConfig
from mmkeras.errors import UserError
from mmkeras.modalities.image.encoder import build_image_encoder
from mmkeras.modalities.image.prompts import check_pair, encode_prompts
from mmkeras.modalities.kerashub import keras_hub
from tests.clip_preset import SIZE_PX, write_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip"))


def test_vectors_have_length_one_and_do_not_depend_on_the_batch(clip, monkeypatch):
    prompts = ["a cat", "a dog", "A CAT", "the quick brown fox jumps over the dog"]
    vectors, scale = encode_prompts(str(clip.folder), prompts)
    assert vectors.shape == (4, 6) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert vectors[0] @ vectors[1] < 0.999
    assert scale == pytest.approx(1 / 0.07, rel=1e-3)  # as CLIP is initialised
    monkeypatch.setattr("mmkeras.modalities.image.prompts._BATCH_PROMPTS", 3)
    batches, _ = encode_prompts(str(clip.folder), prompts)
    np.testing.assert_allclose(batches, vectors, atol=1e-6)


def test_a_pair_has_the_size_of_its_images_and_vectors_of_one_space(clip):
    weights = str(clip.folder)
    assert check_pair(weights) == SIZE_PX
    image = ImageConfig(encoder="kerashub", weights=weights, size_px=SIZE_PX)
    vectors, _ = encode_prompts(weights, ["a cat"])
    assert build_image_encoder(image).output_shape == (None, vectors.shape[1])


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ('{"class_name": "ViTBackbone", "config": {}}', "ViTBackbone"),
        ('{"model_type": "clip"}', "clip"),
        ('{"class_name": "CLIPBackbone"}', "folder with a damaged config.json"),
        ("[1]", "folder with a damaged config.json"),
        ("{", "folder with a damaged config.json"),
    ],
)
def test_a_folder_without_encoders_of_texts_and_images_is_refused(
    content, kind, tmp_path
):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError) as error:
        check_pair(str(tmp_path))
    assert f"image.weights='{tmp_path}' is a {kind}, without" in str(error.value)
    assert "CLIP, SigLIP or MetaCLIP 2" in str(error.value)


def test_a_preset_without_a_tokenizer_is_refused_in_one_line(clip, tmp_path):
    clip.backbone.save_to_preset(str(tmp_path))
    with pytest.raises(UserError, match=rf"\A.*'{tmp_path}' could not be loaded.*\Z"):
        encode_prompts(str(tmp_path), ["a cat"])


# KerasHub leaves the file of the tokenizer open.
@pytest.mark.filterwarnings("ignore:.*vocabulary.spm")
def test_siglip_has_its_own_tokens(tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece", reason="SigLIP's tokenizer")
    models = keras_hub().models
    sizes = {"num_layers": 1, "hidden_dim": 8, "num_heads": 2, "intermediate_dim": 16}
    vision = models.SigLIPVisionEncoder(
        image_shape=(32, 32, 3), patch_size=8, name="vision", **sizes
    )
    text = models.SigLIPTextEncoder(
        vocabulary_size=40,
        embedding_dim=8,
        max_sequence_length=16,
        name="text",
        **sizes,
    )
    backbone = models.SigLIPBackbone(vision, text)
    prefix = tmp_path / "pieces"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a photo of a cat", "a drawing of the dog"] * 9),
        model_prefix=str(prefix),
        vocab_size=40,
        hard_vocab_limit=False,
        unk_piece="<unk>",
        eos_piece="</s>",
    )
    tokenizer = models.SigLIPTokenizer(proto=prefix.with_suffix(".model").read_bytes())
    preprocessor = models.SigLIPPreprocessor(tokenizer, sequence_length=16)
    for part in (backbone, preprocessor):
        part.save_to_preset(str(tmp_path / "preset"))
    vectors, scale = encode_prompts(
        str(tmp_path / "preset"), ["A cat!", "a cat", "dog"]
    )
    np.testing.assert_array_equal(vectors[0], vectors[1])  # case and punctuation
    ids = [*tokenizer("a cat"), *[tokenizer.end_token_id] * 16][:16]
    expected = np.asarray(backbone.get_text_embeddings(np.array([ids])))[0]
    cosine = expected @ vectors[0] / np.linalg.norm(expected)
    assert cosine == pytest.approx(1, abs=1e-5)
    assert scale == pytest.approx(np.exp(float(backbone.siglip_head.logit_scale)))
