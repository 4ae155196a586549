"""yoda forward against tensors computed by the public SR3 implementation."""
from harness import (busy_picture, case, check, floats, read_bytes, read_safetensors, relative_difference, shared, tiny_model,
                     write_safetensors, yoda, yoda_fails)

TOLERANCE = 2e-5


def forward(folder, name, *arguments):
    """(our tensor, the reference) after `yoda forward` on a fixture."""
    model, io = shared(f"fixtures/{folder}/weights.safetensors"), shared(f"fixtures/{folder}/io.safetensors")
    shared(f"fixtures/{folder}/config.json")
    yoda("forward", model, "--in", io, "--out", "out.safetensors", *arguments)
    ours, reference = read_safetensors("out.safetensors")[0][name], read_safetensors(io)[0][name]
    check(ours[1] == reference[1], f"shape {ours[1]}, not {reference[1]}")
    return floats(ours), floats(reference)


def forward_checkpoint(folder, file, name, *arguments):
    """The same with the checkpoint as that code saved it, and with what yoda convert makes of it: the same bytes."""
    model, io, config = (shared(f"fixtures/{folder}/{f}") for f in [file, "io.safetensors", "config.json"])
    yoda("forward", model, "--in", io, "--out", "out.safetensors", *arguments)
    yoda("convert", model, "-o", "ours.safetensors", "--config", config)
    yoda("forward", "ours.safetensors", "--in", io, "--out", "again.safetensors", *arguments)
    check(read_bytes("out.safetensors") == read_bytes("again.safetensors"), "the converted model is another one")
    said = read_safetensors("ours.safetensors")[1]
    check(said["yoda.checksum"].startswith("sha256:") and "yoda-model-1" in said["yoda.config"], said)
    return floats(read_safetensors("out.safetensors")[0][name]), floats(read_safetensors(io)[0][name])


def agrees(ours, reference, tolerance=TOLERANCE):
    difference = relative_difference(ours, reference)
    print(f"  relative difference {difference:.2e}")
    check(difference <= tolerance, f"{difference:.2e} is more than {tolerance}")


@case
def sr3_tiny_evaluation_agrees():
    agrees(*forward("sr3_tiny", "eps"))


@case
def sr3_tiny_evaluation_agrees_on_one_thread():
    agrees(*forward("sr3_tiny", "eps", "--threads", 1))


@case
def sr3_tiny_trace_agrees():
    agrees(*forward("sr3_tiny", "sample", "--trace"))


@case
def sr3_deep_rect_evaluation_agrees():
    agrees(*forward("sr3_deep_rect", "eps"))


@case
def ddpm_tiny_evaluation_agrees():
    agrees(*forward("ddpm_tiny", "eps"))


@case
def checkpoints_as_they_are_agree():
    for folder in ["sr3_tiny", "sr3_deep_rect", "sr3_legacy_format", "ddpm_tiny"]:
        agrees(*forward_checkpoint(folder, "I1_E1_gen.pth", "eps"))
    for folder in ["sr3_tiny", "sr3_legacy_format"]:
        agrees(*forward_checkpoint(folder, "I1_E1_gen.pth", "sample", "--trace"))


@case
def bf16_is_close_and_not_the_same():
    ours, reference = forward("sr3_tiny", "eps", "--dtype", "bf16")
    difference = relative_difference(ours, reference)
    check(1e-4 < difference < 5e-2, f"{difference:.2e}")


@case
def a_comparison_can_fail():
    ours, reference = forward("sr3_tiny", "eps")
    ours[17] += 1e-3
    check(relative_difference(ours, reference) > TOLERANCE, "a wrong value went unnoticed")


def picture_tensor(n, h, w):
    return ("F32", [n, 3, h, w], bytes(4 * n * 3 * h * w))


@case
def wrong_tensors_are_refused_by_name():
    tiny_model()
    level = ("F32", [1, 1], bytes(4))
    good = {"cond": picture_tensor(1, 32, 32), "x_t": picture_tensor(1, 32, 32), "noise_level": level}
    for change, words in [
        ({"cond": None}, ["cond"]),
        ({"x_t": picture_tensor(1, 32, 16)}, ["x_t"]),
        ({"x_t": picture_tensor(2, 32, 32)}, ["x_t"]),
        ({"cond": picture_tensor(1, 30, 32), "x_t": picture_tensor(1, 30, 32)}, ["multiples of 4"]),
        ({"noise_level": None}, ["noise_level"]),
        ({"noise_level": ("F32", [2, 1], bytes(8))}, ["noise_level"]),
        ({"x_t": ("I64", [1, 3, 32, 32], bytes(8 * 3 * 1024))}, []),
    ]:
        tensors = {k: v for k, v in {**good, **change}.items() if v}
        write_safetensors("in.safetensors", tensors, {})
        arguments = ["forward", "tiny.safetensors", "--in", "in.safetensors", "--out", "out.safetensors"]
        if change.get("x_t", [""])[0] == "I64":
            yoda(*arguments)  # integers are numbers
        else:
            yoda_fails(*arguments, says=["in.safetensors", *words])
    write_safetensors("in.safetensors", good, {})
    yoda_fails("forward", "tiny.safetensors", "--in", "in.safetensors", "--out", "x", "--trace", says=["x_T"])


@case
def a_network_is_told_by_the_name_of_what_it_is_told():
    io, model = shared("fixtures/ddpm_tiny/io.safetensors"), shared("fixtures/ddpm_tiny/weights.safetensors")
    tensors, _ = read_safetensors(io)
    tensors["noise_level"] = tensors.pop("timestep")
    write_safetensors("in.safetensors", tensors, {})
    yoda_fails("forward", model, "--in", "in.safetensors", "--out", "x", says=["timestep"])


@case
def a_picture_is_no_tensor_file():
    tiny_model()
    busy_picture("in.png", 16, 16)
    yoda_fails("forward", "tiny.safetensors", "--in", "in.png", "--out", "x", says=["in.png"])
