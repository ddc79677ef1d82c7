"""Names of the original U-Nets, against diffusers' own conversion of checkpoints."""

from __future__ import annotations

from typing import Any

import pytest
from tests.backbones.sdxl_config import SD15, SDXL, SMALL, on_meta

from intarsia.backbones.ldm_names import from_ldm, ldm_blocks, to_ldm_names


@pytest.mark.parametrize(("config", "count"), [(SDXL, 1680), (SD15, 686), (SMALL, None)])
def test_every_parameter_has_the_name_that_diffusers_reads_it_from(config: dict[str, Any], count: int | None) -> None:
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    unet = on_meta(config)
    parameters = dict(unet.named_parameters())
    names = to_ldm_names(parameters, unet.config)
    assert set(names) == set(parameters) and len(set(names.values())) == len(names)
    assert count is None or len(names) == count
    blocks = ldm_blocks(unet.config)
    assert [from_ldm(theirs, unet.config, blocks) for theirs in names.values()] == list(names)
    file = {f"model.diffusion_model.{theirs}": parameters[ours] for ours, theirs in names.items()}
    converted = convert_ldm_unet_checkpoint(dict(file), dict(unet.config))
    assert set(converted) == set(parameters)
    assert all(converted[name] is parameters[name] for name in parameters)


def test_modules_have_names_too() -> None:
    pairs = {
        "input_blocks.4.1": "down_blocks.1.attentions.0",
        "input_blocks.3.0.op": "down_blocks.0.downsamplers.0.conv",
        "middle_block.1.proj_in": "mid_block.attentions.0.proj_in",
        "output_blocks.2.2.conv": "up_blocks.0.upsamplers.0.conv",
        "output_blocks.8.0.skip_connection": "up_blocks.2.resnets.2.conv_shortcut",
        "label_emb.0.2": "add_embedding.linear_2",
        "out.2": "conv_out",
    }
    assert {theirs: from_ldm(theirs, SMALL) for theirs in pairs} == pairs
    assert to_ldm_names(list(pairs.values()), SMALL) == {ours: theirs for theirs, ours in pairs.items()}


@pytest.mark.parametrize(
    "name",
    [
        "",
        "nothing",
        "input_blocks.9.0.in_layers.0",
        "input_blocks.1.1.norm",
        "output_blocks.8.1.conv",
        "input_blocks.3.0.conv",
        "output_blocks.5.2.op",
        "input_blocks.1.0.in_layers.1",
        "input_blocks.1.0.in_layers.20",
    ],
)
def test_what_the_original_has_not_has_no_name(name: str) -> None:
    assert from_ldm(name, SMALL) is None


def test_size_conditioning_has_names_only_where_there_is_some() -> None:
    config = on_meta(SD15).config
    assert from_ldm("label_emb.0.0.weight", config) is None
    assert to_ldm_names(["class_embedding.weight", "down_blocks.7.resnets.0.conv1.weight"], config) == {}
