"""The step ``instruct``: three kinds of instructions, and where the thing is."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from intarsia.engines.pairs.samples import Row, box_in, mask_of, photo_of
from intarsia.engines.pairs.texts import class_instruction, expression_instruction, fault_of, spoken, tidy
from intarsia.perception import Describer, HelperAwayError, HelperError, InstructionWriter, WriterOption, place_of

AWAY = "the language model did not answer: class instruction only"
SILENT = "the language model gave no usable answer: class instruction only"
UNUSABLE = "the language model's instruction was dropped: it"
UNNAMED = "the class's instruction was dropped: it"
UNREFERRED = "no expression was usable: the first"
NOTHING = "no usable instruction"


def make_instruct(writers: WriterOption) -> Callable[[Row], list[Row]]:
    """The step ``instruct``."""
    return partial(instruct, describer=writers.load_describer(), writer=writers.load_writer())


def instruct(row: Row, *, describer: Describer | None, writer: InstructionWriter | None) -> list[Row]:
    """Adds PIPE's ``Instruction_Class`` ("add a CLASS"), ``Instruction_VLM-LLM`` (described, then rewritten),
    ``Instruction_Ref_Dataset`` (of the first usable referring expression), each empty where its text fails the check
    of `fault_of`, ``object_location`` ("the top left"; said after "at"), ``description``, and ``instruction_note``: why
    there is no described one, or else no other one. Rejected: what no instruction is left of.

    A language model that does not answer costs the described instruction, not the row.
    """
    mask, name = mask_of(row["mask.png"]), str(row["class"])
    noun = spoken(name)
    described, description, note = "", None, None
    if describer is not None and writer is not None:
        try:
            found = describer.describe(photo_of(row), box_in(row), mask, noun)
            description = found.text
            described = tidy(writer.write(found.text, noun))
        except HelperError as error:
            described, note = "", AWAY if isinstance(error, HelperAwayError) else SILENT
        if described and (fault := fault_of(described, name, placed=False)) is not None:
            described, note = "", f"{UNUSABLE} {fault}"
    plain = class_instruction(name)
    if (fault := fault_of(plain, name, placed=False)) is not None:
        plain, note = "", note or f"{UNNAMED} {fault}"
    sentences = [tidy(expression_instruction(text)) for text in json.loads(row["expressions"])]
    faults = [fault_of(sentence, None) for sentence in sentences]
    referring = next((sentence for sentence, fault in zip(sentences, faults, strict=True) if fault is None), "")
    if faults and not referring:
        note = note or f"{UNREFERRED} {faults[0]}"
    columns: dict[str, Any] = {
        "Instruction_Class": plain,
        "Instruction_VLM-LLM": described,
        "Instruction_Ref_Dataset": referring,
        "object_location": place_of(mask),
        "description": description,
        "instruction_note": note,
    }
    if not (plain or described or referring):
        columns["rejected"] = NOTHING
    return [{**row, **columns}]
