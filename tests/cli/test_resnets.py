"""ResNets and SqueezeNet in yoda attention: names of variants, what their maps are, files as they are published."""
import random
import struct

from harness import busy_picture, case, check, floats, read_png, read_png_header, read_safetensors, shared, write_safetensors, yoda, yoda_fails

NAME = "resnet1x1x1x1-16"


def tiny_resnet(path, prefix="", seed=1):
    """One block a stage, random weights under torchvision's names."""
    draw, tensors = random.Random(seed), {}

    def put(name, shape, low, high):
        n = 1
        for side in shape:
            n *= side
        tensors[prefix + name] = "F32", list(shape), struct.pack(f"<{n}f", *(draw.uniform(low, high) for _ in range(n)))

    def unit(conv, norm, c_in, c, k):
        span = (6 / (c_in * k * k)) ** 0.5
        put(conv + ".weight", (c, c_in, k, k), -span, span)
        for name, low, high in (("weight", 0.8, 1.2), ("bias", -0.2, 0.2), ("running_mean", -0.1, 0.1), ("running_var", 0.5, 1.5)):
            put(f"{norm}.{name}", (c,), low, high)
        tensors[f"{prefix}{norm}.num_batches_tracked"] = "I64", [], struct.pack("<q", 7)

    unit("conv1", "bn1", 3, 8, 7)
    c_in = 8
    for stage in range(1, 5):
        at = f"layer{stage}.0"
        unit(f"{at}.conv1", f"{at}.bn1", c_in, 8, 1)
        unit(f"{at}.conv2", f"{at}.bn2", 8, 8, 3)
        unit(f"{at}.conv3", f"{at}.bn3", 8, 16, 1)
        unit(f"{at}.downsample.0", f"{at}.downsample.1", c_in, 16, 1)
        c_in = 16
    put("fc.weight", (10, 16), -1, 1)
    write_safetensors(path, tensors, {})
    return path


@case
def resnets_make_maps_by_variant_and_head():
    tiny_resnet("net.safetensors", "module.backbone.")
    busy_picture("in.png", 40, 32)
    nets = ("--attention-nets", "net.safetensors")
    text = yoda("attention", "--list", *nets).stdout
    for word in ("", "-agf", "-agf-smooth", "-layer3"):
        check(f"{NAME}{word}:max, :avg, :0 to :5" in text, text)
    planes = set()
    for method in ("", ":0", ":avg", "-agf:avg", "-agf:max", "-agf:5", "-agf-smooth:5", "-layer3:0"):
        yoda("attention", "in.png", "map.png", "--method", NAME + method, *nets)
        check(read_png_header("map.png") == (160, 128, 0), read_png_header("map.png"))
        planes.add(read_png("map.png"))
    check(len(planes) == 8, "maps are alike")
    yoda_fails("attention", "in.png", "map.png", "--method", NAME + ":6", *nets, says=["head", "'6'"])
    yoda_fails("attention", "in.png", "map.png", "--method", NAME + "-fga", *nets, says=["attention", "-agf"])


@case
def resnets_raw_maps_have_the_places_of_their_variant():
    tiny_resnet("net.safetensors")
    busy_picture("in.png", 40, 32)
    nets = ("--attention-nets", "my-net=net.safetensors")
    for method, rows, columns, stride, norm in (("my-net", 7, 9, "32", "minmax"), ("my-net-layer3", 14, 18, "16", "minmax"), ("my-net-agf", 224, 280, "1", "p99")):
        yoda("attention", "in.png", "--method", method, *nets, "--raw", "raw.safetensors")
        tensors, metadata = read_safetensors("raw.safetensors")
        maps = floats(tensors["maps"])
        check(tensors["maps"][1] == [1, 6, rows, columns] and metadata["norm"] == norm and metadata["stride"] == stride, (method, tensors["maps"][1], metadata))
        check((min(maps) < 0) == (norm == "p99"), f"{method}: from {min(maps)} to {max(maps)}")


@case
def resnet50_and_squeezenet_are_asked_for_by_their_plain_names():
    busy_picture("in.png", 40, 32)
    for name in ("resnet50", "resnet50:max", "resnet50-agf:avg", "squeezenet:3"):
        yoda_fails("attention", "in.png", "map.png", "--method", name, says=["no attention network"])
    weights = shared("data/weights/squeeze.backbone.pth")
    for name in ("squeezenet", "squeezenet:3"):
        yoda("attention", "in.png", "map.png", "--method", name, "--attention-nets", weights)
        check(max(read_png("map.png")) > 180 and min(read_png("map.png")) < 60, "hardly a map from 0 to 1")
