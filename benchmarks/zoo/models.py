"""Every model of the zoo by name."""

from __future__ import annotations

from typing import Any

from benchmarks.zoo.bert import BERT, MINILM
from benchmarks.zoo.dlrm import DLRM
from benchmarks.zoo.entry import ZooModel
from benchmarks.zoo.gpt2 import GPT2
from benchmarks.zoo.llama import LLAMA
from benchmarks.zoo.lstm import LSTM
from benchmarks.zoo.mobilenet import MOBILENET
from benchmarks.zoo.resnet import RESNET
from benchmarks.zoo.t5 import T5
from benchmarks.zoo.vit import VIT
from benchmarks.zoo.whisper import WHISPER

__all__ = ["MODELS"]

MODELS: dict[str, ZooModel[Any]] = {
    model.name: model for model in (MINILM, BERT, GPT2, LLAMA, T5, RESNET, MOBILENET, VIT, LSTM, DLRM, WHISPER)
}
