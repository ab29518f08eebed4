"""The ops of GpuOps in torch, on the same shapes: prints a JSON object of seconds per op.

Called as: python torch_ops.py '{"tokens": ..., ...}' bf16|f32
"""

import json
import sys

import torch
import torch._functorch.config
import torch.nn.functional as F

shape = json.loads(sys.argv[1])
dtype = torch.bfloat16 if sys.argv[2] == "bf16" else torch.float32
device = "cuda"
torch.manual_seed(1)
torch.backends.cuda.matmul.allow_tf32 = False
torch._functorch.config.donated_buffer = False  # or a compiled backward could not be run twice

T, S, C, H = (shape[k] for k in ("tokens", "context", "hidden", "heads"))
KV, D, I, V = (shape[k] for k in ("kv_heads", "head_dim", "intermediate", "vocab"))
seconds = {}
failed = {}


def timed(name, work, rounds=5, least=0.05):
    try:
        work()
        work()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

        def one(repeats):
            start.record()
            for _ in range(repeats):
                work()
            end.record()
            end.synchronize()
            return start.elapsed_time(end) / 1e3

        repeats = max(1, min(1000, int(least / max(one(1), 1e-7))))
        seconds[name] = sorted(one(repeats) / repeats for _ in range(rounds))[rounds // 2]
    except Exception as e:  # a peer that cannot do one op still does the others
        failed[name] = str(e).splitlines()[0][:200]


def rand(*dims, scale=1.0, dtype=dtype):
    return torch.randn(*dims, device=device, dtype=dtype) * scale


def compiled(f):
    return torch.compile(f, dynamic=False)


def norm(x, w):
    y = x.float()
    return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-5)).to(x.dtype) * w


def backward_of(f, *inputs):
    inputs = [x.detach().requires_grad_() for x in inputs]
    out = f(*inputs)
    d = torch.randn_like(out)

    def work():
        for x in inputs:
            x.grad = None
        torch.autograd.grad(out, inputs, d, retain_graph=True)

    return work


a = rand(T * I // 64, 64, dtype=torch.float32)
b = torch.empty_like(a)
timed("copy", lambda: b.copy_(a))
del a, b

ids = torch.randint(0, V, (T,), device=device)
table = rand(V, C)
timed("embedding", lambda: F.embedding(ids, table))
timed("embedding_backward", backward_of(lambda w: F.embedding(ids, w), table))
del table

x, w = rand(T, C), rand(C)
timed("rms_norm", (lambda f: lambda: f(x, w))(compiled(norm)))
branch = rand(T, C)


def add_norm(x, y, w):
    s = x + y
    return s, norm(s, w)


timed("add_rms_norm", (lambda f: lambda: f(x, branch, w))(compiled(add_norm)))
timed("rms_norm_backward", backward_of(compiled(norm), x, w))

q, cos, sin = rand(T, H, D), rand(T, 1, D // 2, dtype=torch.float32), rand(T, 1, D // 2, dtype=torch.float32)


def rope(q):
    a, b = q.float().chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(q.dtype)


timed("rope", (lambda f: lambda: f(q))(compiled(rope)))
timed("rope_backward", backward_of(compiled(rope), q))

weight, out = rand(I, C, scale=C**-0.5), rand(T, I)
timed("matmul", lambda: x @ weight.T)
timed("matmul_backward_input", lambda: out @ weight)
timed("matmul_backward_weight", lambda: out.T @ x)
for rows in (1, 2, 8):
    few = x[:rows].contiguous()
    timed(f"matmul_{rows}_rows", lambda: few @ weight.T)
del weight, out, x

q4, k4, v4 = rand(1, H, T, D), rand(1, KV, T, D), rand(1, KV, T, D)


def sdpa(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


timed("attention", lambda: sdpa(q4, k4, v4))
timed("attention_backward", backward_of(sdpa, q4, k4, v4))
for rows in (1, 8):
    qd, kd, vd = rand(rows, H, 1, D), rand(rows, KV, S, D), rand(rows, KV, S, D)
    timed(
        f"decode_attention_{rows}",
        lambda: F.scaled_dot_product_attention(qd, kd, vd, enable_gqa=True),
    )
    del qd, kd, vd
del q4, k4, v4

gate, up = rand(T, I), rand(T, I)


def swiglu(g, u):
    return F.silu(g) * u


timed("swiglu", (lambda f: lambda: f(gate, up))(compiled(swiglu)))
timed("swiglu_backward", backward_of(compiled(swiglu), gate, up))
sums = torch.empty_like(gate)
timed("add", lambda: torch.add(gate, up, out=sums))
del gate, up, sums

hidden, head = rand(T, C), rand(V, C, scale=C**-0.5)
targets = torch.randint(0, V, (T,), device=device)


def loss(h, w):
    return F.cross_entropy((h @ w.T).float(), targets, reduction="none")


timed("token_log_probs", lambda: loss(hidden, head))


def both():
    h, w = hidden.detach().requires_grad_(), head.detach().requires_grad_()
    torch.autograd.grad(loss(h, w).sum(), (h, w))


timed("token_log_probs_and_gradients", both)
del hidden, head

param = torch.nn.Parameter(rand(shape["parameters"], dtype=torch.float32))
param.grad = torch.randn_like(param)
adamw = torch.optim.AdamW([param], lr=1e-5, fused=True)
timed("adamw", adamw.step)
half = torch.empty_like(param, dtype=torch.bfloat16)


def step_and_round():
    adamw.step()
    half.copy_(param.detach())


timed("adamw_bf16", step_and_round)
timed("sum_of_squares", lambda: torch.linalg.vector_norm(param.grad).item())
del param, adamw, half

logits = rand(8, V, scale=2.0, dtype=torch.float32)


def draw():
    values, ids = torch.topk(logits / 0.7, 50)
    p = torch.softmax(values, -1)
    p = p.masked_fill(p.cumsum(-1) - p >= 0.95, 0)
    return ids.gather(1, torch.multinomial(p, 1)).tolist()


timed("draw_greedy", lambda: logits.argmax(-1).tolist())
timed("draw_top_k_top_p", draw)

print(
    json.dumps(
        {
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name(),
            "dtype": sys.argv[2],
            "seconds": seconds,
            "failed": failed,
            "peak_bytes": torch.cuda.max_memory_allocated(),
        }
    )
)
