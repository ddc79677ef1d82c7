"""The real back ends on tiny random models of the very classes that real weights load into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest_tiny import tiny_backbone, tiny_tokenizer

from intarsia.perception import (
    ClipScorer,
    GroundingDetector,
    HelperError,
    Helpers,
    Photo,
    Sam2Segmenter,
    TowerScorer,
    VisionCaptioner,
    ZeroShotTagger,
)
from intarsia.perception.loading import load_parts

RGB = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
PHOTO = Photo("a.png", RGB)
MASK = np.zeros((48, 64), bool)
MASK[10:30, 12:40] = True
BOX = (12, 10, 28, 20)


def bert_tokenizer(words: str) -> Any:
    from transformers import BertTokenizerFast

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *words.split()]
    return BertTokenizerFast(vocab={word: n for n, word in enumerate(vocabulary)})


def tiny_clip() -> tuple[Any, Any, Any]:
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    tokenizer = tiny_tokenizer()
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**small, "vocab_size": len(tokenizer), "max_position_embeddings": 24}
    text |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    vision = {**small, "image_size": 32, "patch_size": 8}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return model, tokenizer, processor


def test_clip_gives_cosines_that_belong_to_each_picture_and_text() -> None:
    scorer = ClipScorer(*tiny_clip())
    texts = ["a red duck", "a mug", "a red duck"]
    together = scorer.similarity([RGB, RGB[:20, :30]], texts)
    assert together.shape == (2, 3) and np.abs(together).max() <= 1 + 1e-5
    assert np.allclose(together[:, 0], together[:, 2])
    alone = scorer.similarity([RGB[:20, :30]], ["a mug"])
    assert np.allclose(together[1, 1], alone, atol=1e-5)


def test_clip_reads_its_folder_again(tmp_path: Path) -> None:
    model, tokenizer, processor = tiny_clip()
    for part in (model, tokenizer, processor):
        part.save_pretrained(tmp_path)
    (tmp_path / "words.txt").write_text("duck\n# no noun\n\nmug\n")
    tagger = Helpers(tagger=f"clip:{tmp_path}#{tmp_path / 'words.txt'}", device="cpu").load_tagger()
    assert isinstance(tagger, ZeroShotTagger) and tagger.words == ("duck", "mug")
    expected = ClipScorer(model, tokenizer, processor).similarity([RGB], ["a photo of a mug"])
    assert np.allclose(tagger.scorer.similarity([RGB], ["a photo of a mug"]), expected, atol=1e-5)


class Fixed:
    """A scorer of fixed similarities."""

    name = "fixed"

    def __init__(self, **values: float) -> None:
        self.values, self.shapes = values, []  # type: ignore[var-annotated]

    def similarity(self, crops: Any, texts: Any) -> Any:
        self.shapes.append(crops[0].shape)
        return np.array([[self.values.get(text.split()[-1], 0.2) for text in texts]], np.float32)


def test_the_zero_shot_tagger_names_what_fits_better_than_nothing() -> None:
    scorer = Fixed(duck=0.23, mug=0.26, vase=0.1)
    tagger = ZeroShotTagger(scorer, ["duck", "Mug", "mug", "vase"])
    found = tagger.tag(PHOTO)
    assert [tag.text for tag in found] == ["mug", "duck"]
    assert found[1].score == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-3)
    tagger.tag(PHOTO, BOX)
    assert scorer.shapes == [(48, 64, 3), (24, 34, 3)]
    with pytest.raises(HelperError, match="one noun a line"):
        ZeroShotTagger(scorer, [])


def test_the_towers_of_a_backbone_score_too() -> None:
    backbone = tiny_backbone()
    scorer = TowerScorer(backbone)
    values = scorer.similarity([RGB, RGB[:16, :16]], ["a red duck", "a mug"])
    side = backbone.native_size
    assert values.shape == (2, 2)
    whole = torch.from_numpy(np.array(RGB[:16, :16])).permute(2, 0, 1)[None] / 127.5 - 1
    larger = torch.nn.functional.interpolate(whole, (side, side), mode="bicubic")
    assert np.allclose(values[1], backbone.image_text_similarity(larger, ["a red duck", "a mug"])[0], atol=0.05)
    with pytest.raises(HelperError, match="no image encoder"):
        TowerScorer(tiny_backbone(image_encoder=False))


def tiny_grounding_dino(tokenizer: Any) -> GroundingDetector:
    from transformers import (
        BertConfig,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessorPil,
        SwinConfig,
    )

    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            embed_dim=8, depths=[1, 1, 1], num_heads=[2, 2, 2], window_size=4, out_indices=[2, 3], image_size=64
        ),
        text_config=BertConfig(
            vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        ),
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_queries=6,
        num_feature_levels=3,
        max_text_len=32,
    )
    torch.manual_seed(0)
    model = GroundingDinoForObjectDetection(config)
    size = {"shortest_edge": 64, "longest_edge": 96}
    return GroundingDetector(model, tokenizer, GroundingDinoImageProcessorPil(size=size), least=0.0)


def test_grounding_dino_gives_boxes_in_the_picture_with_given_tags() -> None:
    detector = tiny_grounding_dino(bert_tokenizer("toy duck mug vase"))
    found = detector.detect(PHOTO, ["toy duck", "mug"])
    assert found and {one.tag for one in found} <= {"toy duck", "mug"}
    for one in found:
        x, y, w, h = one.box
        assert x >= 0 and y >= 0 and w > 0 and h > 0 and x + w <= 64 and y + h <= 48
        assert 0 <= one.text_score <= one.score + 1e-6 <= 1 + 1e-6
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    detector.least = 1.1
    assert detector.detect(PHOTO, ["mug"]) == [] and detector.detect(PHOTO, []) == []


class Output:
    """What a detector's model answers with: two queries, six tokens ([CLS] toy duck . mug .)."""

    logits = torch.full((1, 2, 8), -9.0)
    pred_boxes = torch.tensor([[[0.5, 0.5, 0.5, 0.25], [0.0, 0.0, 0.5, 0.5]]])


def test_a_query_belongs_to_the_tag_of_its_best_token() -> None:
    class Model(torch.nn.Module):
        device, dtype = torch.device("cpu"), torch.float32

        def forward(self, **inputs: Any) -> Output:
            assert inputs["input_ids"].shape[1] == 7
            return Output()

    Output.logits[0, 0, 2], Output.logits[0, 0, 1], Output.logits[0, 0, 4] = 2.0, 0.0, 1.0
    Output.logits[0, 1, 4] = 3.0
    detector = GroundingDetector(Model(), bert_tokenizer("toy duck mug"), lambda **_: {})
    mug, duck = detector.detect(PHOTO, ["toy duck", "mug"])
    assert (mug.tag, mug.box) == ("mug", (0, 0, 16, 12)) and mug.score == pytest.approx(0.9526, abs=1e-3)
    assert (duck.tag, duck.box) == ("toy duck", (16, 18, 32, 12))
    assert duck.score == pytest.approx(0.8808, abs=1e-3) and duck.text_score == pytest.approx(0.6904, abs=1e-3)


def tiny_sam2() -> Sam2Segmenter:
    from transformers import Sam2Config, Sam2Model

    config = Sam2Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": 8,
                "num_attention_heads": 1,
                "image_size": [64, 64],
                "blocks_per_stage": [1, 1, 1, 1],
                "embed_dim_per_stage": [8, 16, 32, 64],
                "num_attention_heads_per_stage": [1, 2, 4, 8],
                "window_size_per_stage": [4, 2, 4, 2],
                "global_attention_blocks": [],
                "window_positional_embedding_background_size": [4, 4],
            },
            "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
            "fpn_hidden_size": 32,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": 64, "patch_size": 16, "mask_input_channels": 4},
        mask_decoder_config={
            "hidden_size": 32,
            "mlp_dim": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 32,
        },
    )
    torch.manual_seed(0)
    return Sam2Segmenter(Sam2Model(config))


def test_sam2_gives_one_mask_of_the_pictures_size_for_each_box() -> None:
    segmenter = tiny_sam2()
    boxes = [BOX, (0, 0, 10, 10), (30, 20, 30, 28)]
    found = segmenter.segment(PHOTO, boxes)
    assert [one.mask.shape for one in found] == [(48, 64)] * 3 and all(one.mask.dtype == bool for one in found)
    assert all(one.predicted_iou is not None and 0 <= one.predicted_iou <= 1 for one in found)
    assert segmenter.segment(PHOTO, []) == []
    # Asked one by one, which also asks the remembered picture, the answers are the same; another picture's are not.
    alone = segmenter.segment(PHOTO, boxes[1:2])[0]
    assert np.array_equal(alone.mask, found[1].mask)
    assert alone.predicted_iou == pytest.approx(found[1].predicted_iou, abs=1e-5)
    other = segmenter.segment(Photo("b.png", 255 - RGB), boxes[1:2])[0]
    assert other.predicted_iou != alone.predicted_iou or not np.array_equal(other.mask, alone.mask)


def test_a_captioning_model_describes_the_crop_it_is_shown() -> None:
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessorPil, BlipProcessor

    tokenizer = bert_tokenizer("a red blue duck mug wearing hat")
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": len(tokenizer), "encoder_hidden_size": 16, "max_position_embeddings": 64}
    text |= {"bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    config = BlipConfig(text_config=text, vision_config={**small, "image_size": 32, "patch_size": 8})
    torch.manual_seed(0)
    model = BlipForConditionalGeneration(config)
    processor = BlipProcessor(BlipImageProcessorPil(size={"height": 32, "width": 32}), tokenizer)
    shapes: list[tuple[int, ...]] = []
    asked = processor.image_processor.preprocess
    captioner = VisionCaptioner(model, processor)
    captioner._inputs, inputs = lambda image, cut: (shapes.append(image.size), inputs(image, cut))[1], captioner._inputs  # type: ignore[method-assign,func-returns-value]
    said = [captioner.caption(PHOTO, BOX, MASK, view) for view in ("context", "cutout", "context")]  # type: ignore[arg-type]
    assert shapes == [(42, 30), (28, 20), (42, 30)] and asked is not None
    assert said[0] == said[2] and said[0].score is not None and 0 < said[0].score <= 1
    assert set(said[0].text.split()) <= {*["a", "red", "blue", "duck", "mug", "wearing", "hat"], "."}


def test_a_chat_model_is_asked_through_its_template() -> None:
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokenizer = bert_tokenizer("a red blue duck mug wearing hat user describe the thing")
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**small, image_size=32, patch_size=8),
        text_config=LlamaConfig(**small, num_key_value_heads=2, vocab_size=len(tokenizer), pad_token_id=0),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    torch.manual_seed(0)
    template = (
        "user {% for part in messages[0]['content'] %}"
        "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %} "
    )
    processor = LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )
    said = VisionCaptioner(LlavaForConditionalGeneration(config), processor).caption(PHOTO, BOX, MASK)
    assert "describe" not in said.text.split()[:1] and said.score is not None and 0 < said.score <= 1
    assert len(said.text.split()) <= 32


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"tagger": "ram"}, "tagger 'ram' is unknown"),
        ({"tagger": "openai:http://host/v1"}, "lacks a part"),
        ({"tagger": "clip:model"}, "lacks a part"),
        ({"detector": "truth:x"}, "detector 'truth:x' is unknown"),
        ({"segmenter": "sam2:"}, "segmenter 'sam2:' is unknown"),
        ({"scorer": "truth"}, "scorer 'truth' is unknown"),
    ],
)
def test_unknown_helpers_are_named(options: dict[str, str], complaint: str) -> None:
    with pytest.raises(HelperError, match=complaint):
        Helpers(**options)  # type: ignore[arg-type]


def test_models_that_are_not_there_are_named(tmp_path: Path) -> None:
    for helpers, load in (
        (Helpers(detector="grounding-dino:no/such-model"), "load_detector"),
        (Helpers(segmenter=f"sam2:{tmp_path}"), "load_segmenter"),
        (Helpers(captioner="transformers:no/such-model"), "load_captioner"),
        (Helpers(tagger=f"clip:{tmp_path}#{tmp_path / 'no.txt'}"), "load_tagger"),
    ):
        with pytest.raises(HelperError, match=r"cannot be (loaded|read)") as caught:
            getattr(helpers, load)()
        assert "\n" not in str(caught.value)


def test_helpers_are_never_downloaded_and_a_policy_holds_for_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from intarsia.backbones import BackboneError

    monkeypatch.setenv("INTARSIA_MODELS", str(tmp_path / "own"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    asked: list[dict[str, Any]] = []

    class Model:
        @classmethod
        def from_pretrained(cls, where: str, **options: Any) -> Any:
            asked.append({"where": where, **options})
            raise OSError("not here")

    with pytest.raises(HelperError, match="intarsia models fetch owner/name@abc"):
        load_parts("clip", "owner/name@abc", "cpu", Model)
    assert asked == []
    with pytest.raises(BackboneError, match="intarsia models fetch sam2"):
        load_parts("sam2", "sam2", "cpu", Model)
    folder = tmp_path / "own" / "sam2"
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes(b"{}")
    monkeypatch.setenv("INTARSIA_LICENSE_POLICY", "permissive")
    with pytest.raises(HelperError, match="not here"):
        load_parts("sam2", "sam2", "cpu", Model)
    safe = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True, "output_loading_info": True}
    assert asked == [{"where": str(folder), **safe}]
    for refused in ("clip", "owner/name", str(folder)):
        with pytest.raises(BackboneError, match="policy is permissive"):
            load_parts("clip", refused, "cpu", Model)
