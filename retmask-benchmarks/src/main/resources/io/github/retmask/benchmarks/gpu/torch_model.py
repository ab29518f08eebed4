"""A Llama of random weights in transformers: seconds of prefill, decoding steps and a DPO step.

Called as: python torch_model.py '{"layers": ..., ...}' bf16|f32; prints one JSON object.
"""

import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

shape = json.loads(sys.argv[1])
dtype = torch.bfloat16 if sys.argv[2] == "bf16" else torch.float32
config = LlamaConfig(
    vocab_size=shape["vocab"],
    hidden_size=shape["hidden"],
    intermediate_size=shape["intermediate"],
    num_hidden_layers=shape["layers"],
    num_attention_heads=shape["heads"],
    num_key_value_heads=shape["kv_heads"],
    tie_word_embeddings=shape["tied"],
    max_position_embeddings=shape["prompt"] + shape["steps"] + 2,
)
torch.manual_seed(1)
with torch.device("cuda"):
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=dtype)
seconds = {}


def now():
    torch.cuda.synchronize()
    return time.perf_counter()


@torch.inference_mode()
def generate(rows, prefill, decode):
    ids = torch.randint(0, shape["vocab"], (rows, shape["prompt"]), device="cuda")
    for _ in range(2):
        start = now()
        out = model(ids, use_cache=True, logits_to_keep=1)
        token = out.logits[:, -1].argmax(-1, keepdim=True)
        seconds[prefill] = now() - start
        start = now()
        for _ in range(shape["steps"]):
            out = model(token, past_key_values=out.past_key_values, use_cache=True)
            token = out.logits[:, -1].argmax(-1, keepdim=True)
        seconds[decode] = (now() - start) / shape["steps"]


generate(1, "prefill", "decode")
generate(2, "twin_prefill", "twin_decode")
peak = torch.cuda.max_memory_allocated()
del model
torch.cuda.empty_cache()
torch.cuda.reset_peak_memory_stats()
failed = {}


def train():
    """F32 masters, BF16 by autocast, gradient checkpointing, fused AdamW; one pair of rows."""
    with torch.device("cuda"):
        policy = AutoModelForCausalLM.from_config(
            config, attn_implementation="sdpa", dtype=torch.float32
        )
    policy.train()
    policy.config.use_cache = False
    policy.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW(
        policy.parameters(), lr=1e-6, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    tokens = shape["trained"]
    ids = torch.randint(0, shape["vocab"], (2, tokens), device="cuda")
    for _ in range(3):
        start = now()
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits = policy(ids, logits_to_keep=tokens - tokens // 2 + 1).logits[:, :-1]
        labels = ids[:, tokens // 2 :]
        logps = -torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), labels.flatten(), reduction="none"
        )
        chosen, rejected = logps.view(2, -1).sum(-1)
        loss = -torch.nn.functional.logsigmoid(0.1 * (chosen - rejected))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds["training_step"] = now() - start


try:
    train()
except torch.OutOfMemoryError as e:
    failed["training_step"] = str(e).splitlines()[0]
print(
    json.dumps(
        {
            "torch": torch.__version__,
            "dtype": sys.argv[2],
            "seconds": seconds,
            "failed": failed,
            "peak_bytes": peak,
            "training_peak_bytes": torch.cuda.max_memory_allocated(),
        }
    )
)
