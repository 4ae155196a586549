"""One peer as a process: `worker.py NAME` answers load and run lines with one line of JSON each, like ours.c.

    eager | compile | onnxruntime | openvino
    load MODEL DTYPE BATCH INPUT OUTPUT    make it ready; evaluate INPUT (f32: windows NHWC, then levels) once into OUTPUT (f32, NHWC)
    run COUNT                              evaluate COUNT times: {"seconds": [...]}

Each peer gets what suits it: weights packed ahead of time where it can, static shapes, its native layout for input and output, as many
threads as this process has cores. Converted models lie beside the model file (*.onnx, *.xml) and are made when missing.
Between lines a worker sleeps on its input; threads that spin would take the cores from the others.
"""
import gc
import json
import os
import sys
import time

import numpy as np

WARM_UP = 2
CORES = len(os.sched_getaffinity(0))


class Torch:
    """PyTorch, channels_last: eager, or compiled by inductor with frozen (packed ahead of time) weights."""

    def __init__(self, compiled):
        import torch
        self.torch, self.compiled = torch, compiled
        torch.set_num_threads(CORES)

    def load(self, model, dtype, batch, x, level):
        torch = self.torch
        torch._dynamo.reset()
        self.net = load_module(model)[0].to(memory_format=torch.channels_last)
        if dtype == "bf16":
            self.net = self.net.to(torch.bfloat16)
        if self.compiled:
            import torch._inductor.config as inductor
            inductor.freezing = True
            self.net = torch.compile(self.net, dynamic=False)
        self.x = torch.from_numpy(x).permute(0, 3, 1, 2)  # NHWC in memory: channels_last
        self.level = torch.from_numpy(level)
        blas = "MKL" if torch.backends.mkl.is_available() else "no MKL"
        dnnl = torch.__config__.show().split("MKL-DNN v")[1].split(" ")[0]
        return {"version": f"PyTorch {torch.__version__.split('+')[0]}", "detail": f"oneDNN {dnnl}, {blas}"}

    def run(self):
        with self.torch.no_grad():
            return self.net(self.x, self.level)

    def output(self):
        return self.run().permute(0, 2, 3, 1).numpy()


def load_module(model):
    """The PyTorch module of a model file, its config, and how many channels a window has."""
    import sr3_torch
    import srdiff_torch
    config, tensors = sr3_torch.read_model(model)
    family = srdiff_torch if config["network"]["type"] == "srdiff" else sr3_torch
    return family.module(config["network"], tensors), config, channels(config)


def channels(config):
    return 3 + config["network"]["inner_channel"] if config["network"]["type"] == "srdiff" else 6


def export_onnx(model):
    """The model as ONNX, its batch a name that the runtime makes static."""
    path = model.removesuffix(".safetensors") + ".onnx"
    if not os.path.exists(path):
        import torch
        net, config, c = load_module(model)
        size = config["window"]
        torch.onnx.export(net, (torch.zeros(1, c, size, size), torch.zeros(1)), path + ".part", dynamo=False, opset_version=17,
                          input_names=["x", "level"], output_names=["out"],
                          dynamic_axes={"x": {0: "n"}, "level": {0: "n"}, "out": {0: "n"}})
        os.rename(path + ".part", path)
    return path


class OnnxRuntime:
    def load(self, model, dtype, batch, x, level):
        import onnxruntime as ort
        if dtype != "f32":
            raise ValueError("its CPU kernels have no bf16 convolution")
        opt = ort.SessionOptions()
        opt.intra_op_num_threads = CORES
        opt.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        opt.add_free_dimension_override_by_name("n", batch)
        opt.add_session_config_entry("session.force_spinning_stop", "1")  # idle between runs, spinning within
        self.session = ort.InferenceSession(export_onnx(model), opt, providers=["CPUExecutionProvider"])
        self.feed = {"x": np.ascontiguousarray(x.transpose(0, 3, 1, 2)), "level": level}
        return {"version": f"ONNX Runtime {ort.__version__}", "detail": "MLAS"}

    def run(self):
        return self.session.run(None, self.feed)[0]

    def output(self):
        return self.run().transpose(0, 2, 3, 1)


def export_openvino(model):
    path = model.removesuffix(".safetensors") + ".xml"
    if not os.path.exists(path):
        import openvino as ov
        import torch
        net, config, c = load_module(model)
        size = config["window"]
        converted = ov.convert_model(net, example_input=(torch.zeros(2, c, size, size), torch.zeros(2)))
        ov.save_model(converted, path, compress_to_fp16=False)
    return path


class OpenVino:
    def load(self, model, dtype, batch, x, level):
        import openvino as ov
        core = ov.Core()
        net = core.read_model(export_openvino(model))
        ports = net.inputs
        net.reshape({ports[0]: [batch, x.shape[3], x.shape[1], x.shape[2]], ports[1]: [batch]})
        compiled = core.compile_model(net, "CPU", {"INFERENCE_PRECISION_HINT": dtype, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1,
                                                   "INFERENCE_NUM_THREADS": CORES})
        self.request = compiled.create_infer_request()
        self.request.set_input_tensor(0, ov.Tensor(np.ascontiguousarray(x.transpose(0, 3, 1, 2))))
        self.request.set_input_tensor(1, ov.Tensor(level))
        return {"version": f"OpenVINO {ov.__version__.split('-')[0]}", "detail": "its own oneDNN"}

    def run(self):
        self.request.infer()
        return self.request.get_output_tensor(0).data

    def output(self):
        return self.run().transpose(0, 2, 3, 1)


PEERS = {"eager": lambda: Torch(False), "compile": lambda: Torch(True), "onnxruntime": OnnxRuntime, "openvino": OpenVino}


def load(peer, model, dtype, batch, source, target):
    with open(model, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
    config = json.loads(header["__metadata__"]["yoda.config"])
    size = config["window"]
    values = np.fromfile(source, np.float32)
    x, level = values[:-int(batch)].reshape(int(batch), size, size, channels(config)), values[-int(batch):].copy()
    gc.collect()
    info = peer.load(model, dtype, int(batch), x, level)
    for _ in range(WARM_UP):
        out = peer.output()
    np.ascontiguousarray(out, np.float32).tofile(target)
    return info


def run(peer, count):
    seconds = []
    for _ in range(int(count)):
        begin = time.perf_counter()
        peer.run()
        seconds.append(time.perf_counter() - begin)
    return {"seconds": seconds}


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    peer = PEERS[sys.argv[1]]()
    gc.disable()
    for line in sys.stdin:
        word, *rest = line.split()
        try:
            answer = {"load": load, "run": run}[word](peer, *rest)
        except Exception as e:  # the comparison goes on without this peer, and says why
            answer = {"error": f"{type(e).__name__}: {e}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
