"""The same network in PyTorch on the same device, beside what gpu-bench measured: torch_bench.py [--device cuda|cpu] [--ours FILE] [--seconds N] [--small]

The paper's SR3 with random weights, bf16, channels_last, inputs on the device already; eager, torch.compile, and torch.compile with CUDA graphs (mode
"reduce-overhead"), each the median of runs that follow each other. Compilation is not counted. FILE is gpu-bench's --json; the last column
is PyTorch's time over ours. Rows for which the seconds have run out are said to be left out. Without PyTorch it says so and is content.
"""
import argparse
import json
import os
import statistics
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench", "peers"))

NETWORK = {"inner_channel": 64, "norm_groups": 32, "channel_multiplier": [1, 2, 4, 8, 8], "res_blocks": 3, "attn_res": [16], "image_size": 128,
           "in_channel": 6, "out_channel": 3, "mid_attention": True}
SMALL = {**NETWORK, "channel_multiplier": [1, 2], "image_size": 32}


def read_ours(path):
    """{(mode, side, batch): milliseconds}"""
    if not path or not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    return {(r["mode"], r["side"], r["batch"]): r["ms"] for r in rows if r["model"] == "sr3-paper"}


def time_runs(torch, device, step, most_s):
    """Median seconds of a run, the device waited for."""
    def wait():
        if device == "cuda":
            torch.cuda.synchronize()
    for _ in range(3):
        step()
    wait()
    times, until = [], time.perf_counter() + most_s
    while len(times) < 3 or (len(times) < 100 and time.perf_counter() < until):
        begin = time.perf_counter()
        step()
        wait()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def variants(torch, net):
    """Name and a maker of the callable, in the order in which they are worth measuring."""
    return [("eager", lambda: net), ("compile", lambda: torch.compile(net)), ("compile, graphs", lambda: torch.compile(net, mode="reduce-overhead"))]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--ours")
    parser.add_argument("--seconds", type=float, default=200)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    try:
        import torch
        from sr3_torch import Sr3
    except ImportError as e:
        print(f"skipped: no PyTorch to compare with ({e})")
        return 0
    if options.device == "cuda" and not torch.cuda.is_available():
        print("skipped: PyTorch sees no CUDA device")
        return 0
    until, ours, left_out = time.monotonic() + options.seconds, read_ours(options.ours), 0
    torch.manual_seed(1)
    torch.backends.cudnn.benchmark = True  # as who wants speed sets it
    net = Sr3(SMALL if options.small else NETWORK).eval().requires_grad_(False).to(options.device, torch.bfloat16)
    net = net.to(memory_format=torch.channels_last)
    shapes = [(32, 1)] if options.small else [(128, 1), (128, 16)]
    print(f"\nPyTorch {torch.__version__}, bf16, channels_last\n side  batch  {'':16}     ms/step   over ours")
    for name, make in variants(torch, net):
        for side, batch in shapes:
            if time.monotonic() > until:
                left_out += 1
                continue
            x = torch.rand(batch, 6, side, side, device=options.device).to(memory_format=torch.channels_last)
            level = torch.rand(batch, device=options.device)
            with torch.inference_mode():
                try:
                    step = make()
                    ms = 1e3 * time_runs(torch, options.device, lambda: step(x, level), 1.0)
                except Exception as e:  # a compiler that is not there must not end the comparison
                    print(f"{side:5d} {batch:6d}  {name:16}  {type(e).__name__}: {str(e).splitlines()[0][:120]}")
                    continue
            mine = ours.get(("pinned", side, batch))
            print(f"{side:5d} {batch:6d}  {name:16}  {ms:10.3f}  " + (f"{ms / mine:9.2f}x" if mine else "        -"), flush=True)
        if hasattr(torch, "_dynamo"):
            torch._dynamo.reset()
    if left_out:
        print(f"{left_out} rows are left out: the time was over")
    return 0


if __name__ == "__main__":
    sys.exit(main())
