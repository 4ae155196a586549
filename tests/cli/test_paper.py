"""tools/paper-ablation on drawn pictures: trainings of a few samples, their evaluation and every table, end to end."""
import os
import subprocess
import sys

from harness import ROOT, SHARED, YODA, busy_picture, case, check, clean_environment

CLAIMS = {"claim-a": 6, "claim-b": 6, "claim-c": 6, "claim-d": 7}  # lines of each table


def ablation(*arguments, status=0):
    here = os.getcwd()
    env = clean_environment({"YODA": YODA, "YODA_SHARED": SHARED, "FACES": f"{here}/faces", "OUT": f"{here}/out", "SAMPLES": "8", "STEPS": "5",
                             "KEPT": "2", "SEEDS": "1 2", "THREADS": "1"})
    r = subprocess.run([sys.executable, f"{ROOT}/tools/paper-ablation", *arguments], capture_output=True, text=True, env=env, timeout=300)
    check(r.returncode == status, f"{arguments}: status {r.returncode}\n{r.stdout[-2000:]}{r.stderr[-2000:]}")
    return r


@case
def paper_ablation_trains_evaluates_and_prints_every_table():
    ablation("all", status=1)  # no faces yet
    os.mkdir("faces")
    for i in range(6):
        busy_picture(f"faces/face-{i}.png", 128, 128)
    out = ablation("all").stdout
    check(sorted(os.listdir("out/test")) == ["face-4.png", "face-5.png"] and len(os.listdir("out/train")) == 4, str(os.listdir("out")))
    for claim, lines in CLAIMS.items():
        table = [line.split("|")[1:-1] for line in out.split(f"## {claim}\n")[1].split("\n## ")[0].strip().splitlines()]
        check(len(table) == lines + 3 and len({len(line) for line in table}) == 1, f"{claim}: {table}")
        check(ablation(claim).stdout.split() == [word for line in table for word in "|".join(["", *line, ""]).split()], f"{claim} alone differs")
        psnr = [float(line[2]) for line in table[3:]]
        shares = {line[7].strip() for line in table[3:]}
        check(all(3 < v < 60 for v in psnr) and len(shares) > 1, f"{claim}: {psnr} {shares}")  # trained so little, pictures hardly differ
        for line in table[3:]:
            check(("±" in line[9]) == ("against" in line[1]), f"{claim}: {line}")
    before = os.stat("out/edge-b8-z.safetensors").st_mtime_ns
    ablation("train")  # nothing is left to do
    check(os.stat("out/edge-b8-z.safetensors").st_mtime_ns == before, "a finished training was done again")
    check("edge-b9" in ablation("train", "edge-b9", status=1).stderr, "an unknown model is not named")
