"""A browser for the tests of the page: Debian's chromium, driven by chromedriver over the WebDriver protocol. Standard library only."""
import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
KEYS = {"tab": "\ue004", "enter": "\ue007", "space": " ", "left": "\ue012", "right": "\ue014", "home": "\ue011", "end": "\ue010"}


def available():
    return bool(shutil.which("chromedriver") and shutil.which("chromium"))


class Browser:
    """One chromium with a profile of its own. Commands that fail raise RuntimeError with what chromedriver says."""

    def __init__(self, width=1280, height=860, dark=False):
        self.dir = tempfile.mkdtemp(prefix="yodad-web-")
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                       stdin=subprocess.DEVNULL, start_new_session=True)
        self.url = None
        for line in self.driver.stdout:
            found = re.search(r"successfully on port (\d+)", line)
            if found:
                self.url = f"http://127.0.0.1:{found.group(1)}"
                break
        args = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
                f"--window-size={width},{height}", f"--user-data-dir={self.dir}/profile"]
        if os.geteuid() == 0:
            args.append("--no-sandbox")  # which it refuses to set up for root
        made = self._call("POST", "/session", {"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": {"args": args, "binary": shutil.which("chromium")},
            "goog:loggingPrefs": {"browser": "ALL"}}}})
        self.session = "/session/" + made["sessionId"]
        self.cdp("Browser.setDownloadBehavior", behavior="allow", downloadPath=self.dir)
        self.look(width, height, dark)

    def _call(self, method, path, body=None):
        data = json.dumps(body if body is not None else {}).encode() if method == "POST" else None
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as e:
            raise RuntimeError(f"{path}: {json.load(e)['value']['message'][:400]}") from None

    def command(self, method, path, **body):
        return self._call(method, self.session + path, body)

    def cdp(self, name, **params):
        return self.command("POST", "/goog/cdp/execute", cmd=name, params=params)

    def look(self, width, height, dark=False, phone=False, still=False):
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone)
        self.cdp("Emulation.setTouchEmulationEnabled", enabled=phone)
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
                                                         {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"}])

    def open(self, url):
        self.command("POST", "/url", url=url)

    def js(self, script, *args):
        return self.command("POST", "/execute/sync", script=script, args=list(args))

    def js_async(self, script, *args):
        return self.command("POST", "/execute/async", script=script, args=list(args))

    def wait(self, script, seconds=20, what=None):
        """Until the script's value is true; that value."""
        deadline = time.monotonic() + seconds
        while True:
            value = self.js(script)
            if value:
                return value
            if time.monotonic() > deadline:
                raise AssertionError(f"never true in {seconds} s: {what or script}")
            time.sleep(0.05)

    def find(self, selector):
        return self.command("POST", "/element", using="css selector", value=selector)[ELEMENT]

    def click(self, selector):
        self.command("POST", f"/element/{self.find(selector)}/click")

    def upload(self, *paths):
        self.command("POST", f"/element/{self.find('#file')}/value", text="\n".join(os.path.abspath(p) for p in paths))

    def press(self, *keys):
        """Keys to whatever has the focus."""
        acts = [{"type": t, "value": KEYS.get(k, k)} for k in keys for t in ("keyDown", "keyUp")]
        self.command("POST", "/actions", actions=[{"type": "key", "id": "k", "actions": acts}])

    def mouse(self, *points, element="#stage"):
        """Press at the first point of an element (shares of its width and height), pass the others, let go at the last."""
        box = self.js("const b = document.querySelector(arguments[0]).getBoundingClientRect(); return [b.left, b.top, b.width, b.height]", element)
        at = [(round(box[0] + box[2] * x), round(box[1] + box[3] * y)) for x, y in points]
        acts = [{"type": "pointerMove", "duration": 30, "x": x, "y": y} for x, y in at]
        acts[1:1] = [{"type": "pointerDown", "button": 0}]
        self.command("POST", "/actions", actions=[{"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"},
                                                   "actions": acts + [{"type": "pointerUp", "button": 0}]}])

    def wheel(self, delta, x=0.5, y=0.5, element="#stage"):
        box = self.js("const b = document.querySelector(arguments[0]).getBoundingClientRect(); return [b.left, b.top, b.width, b.height]", element)
        self.command("POST", "/actions", actions=[{"type": "wheel", "id": "wheel", "actions": [
            {"type": "scroll", "x": round(box[0] + box[2] * x), "y": round(box[1] + box[3] * y), "deltaX": 0, "deltaY": delta}]}])

    def touch(self, *moments):
        """Fingers on the screen: each moment is a list of (x, y) in CSS pixels, one a finger; then all are lifted."""
        for i, fingers in enumerate(moments):
            self.cdp("Input.dispatchTouchEvent", type="touchMove" if i else "touchStart",
                     touchPoints=[{"x": x, "y": y, "id": n} for n, (x, y) in enumerate(fingers)])
        self.cdp("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def picture(self, path, **options):
        data = self.cdp("Page.captureScreenshot", **options)["data"]
        with open(path, "wb") as f:
            f.write(base64.b64decode(data))

    def complaints(self):
        """What the console has said since the last call: warnings and errors."""
        said = self.command("POST", "/se/log", type="browser")
        return [e["message"] for e in said if e["level"] in ("SEVERE", "WARNING")]

    def close(self):
        try:
            self.command("DELETE", "")
        except (OSError, RuntimeError):
            pass
        self.driver.terminate()
        self.driver.wait(10)
        shutil.rmtree(self.dir, ignore_errors=True)
