"""What a person does on the page, done by a browser."""
import os
import signal
import tempfile
import time

from harness import Daemon, check, textured
from webdriver import Browser

STATE = "document.getElementById('state').textContent"
DONE = f"return {STATE}.startsWith('Done')"
BUSY = f"return {STATE}.startsWith('Step') && location.hash"


def quiet(s):
    said = [c for c in s.b.complaints() if "/favicon.ico" not in c]  # asked for by a browser that is shown /livez
    check(not said, "a quiet console", said)


class Site:
    """A daemon whose jobs survive it, and a browser."""

    def __init__(self):
        self.others = []
        self.dir = tempfile.mkdtemp(prefix="yodad-web-")
        self.flags = dict(model_dir="models", model="yoda-compact-4x", state_dir=self.dir + "/state", checkpoint_interval_ms=200)
        self.d = Daemon(**self.flags)
        self.b = Browser()

    def picture(self, name, width=24, height=24, salt=0):
        path = os.path.join(self.dir, name)
        with open(path, "wb") as f:
            f.write(textured(width, height, salt))
        return path

    def fresh(self, **settings):
        """The page with only these settings chosen."""
        self.b.look(1280, 860, still=True)
        self.b.open(self.d.url + "/livez")
        self.b.js("localStorage.setItem('yoda-settings', JSON.stringify(arguments[0]))", settings)
        self.b.open(self.d.url + "/")
        self.b.wait("return document.querySelectorAll('#quality input').length")

    def job(self):
        return self.b.wait("return location.hash.slice(1)", what="the job has an address")

    def restart(self, sig):
        self.d.stop(sig)
        self.d = Daemon(listen=f"127.0.0.1:{self.d.port}", **self.flags)

    def other(self, **flags):
        """A second daemon, until the tests end."""
        self.others.append(Daemon(**flags))
        return self.others[-1]

    def close(self):
        self.b.close()
        for d in [self.d, *self.others]:
            d.stop()


def test_watch_and_download(s):
    s.fresh(quality="fast", attention="edge", lower_bound="0.1", steps="30")
    s.b.upload(s.picture("first.png", 40, 40))
    s.b.wait("return !document.getElementById('map').hidden", what="the attention map shows")
    s.b.js("""window.seen = new Set(); window.drawn = new Set(); window.looking = setInterval(() => {
      const m = document.querySelector('canvas.mask'), p = document.querySelector('canvas.preview');
      if (m.dataset.step) seen.add(m.dataset.step); if (p.width > 1) drawn.add(p.toDataURL().slice(-400)); }, 30)""")
    s.b.wait(DONE, 40)
    seen, drawn = s.b.js("clearInterval(looking); return [[...seen], drawn.size]")
    check(len(seen) >= 2, "the mask changes", seen)
    check(drawn >= 2, "so does the picture", drawn)
    s.b.wait("return document.getElementById('download').href.startsWith('blob:')", 10)
    s.b.click("#download")
    target, deadline = os.path.join(s.b.dir, "first-160.png"), time.monotonic() + 10
    while not os.path.exists(target) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    with open(target, "rb") as f:
        check(f.read() == s.d.curl(f"/v1/jobs/{s.job()}/result").body, "the download is the result")
    quiet(s)


def test_reload_in_mid_job(s):
    s.fresh(quality="fast", steps="24")
    s.b.upload(s.picture("reload.png", 40, 40, 1))
    s.b.wait(BUSY)
    job = s.job()
    s.b.open(s.d.url + "/#" + job)
    s.b.js("location.reload()")
    s.b.wait(BUSY)
    s.b.wait("return document.getElementById('title').textContent === 'reload.png'", 10, "it knows the file's name")
    check(s.job() == job, "the same job")
    s.b.wait(DONE, 60)


def test_server_killed_in_mid_job(s):
    s.fresh(quality="fast", steps="30")
    s.b.upload(s.picture("killed.png", 40, 40, 2))
    s.b.wait(BUSY, 30)
    s.b.wait("return document.querySelectorAll('#progress i.done').length > 2", 30)
    s.restart(signal.SIGKILL)
    s.b.wait(DONE, 60)
    check("Restarts survived" in s.b.js("return document.getElementById('facts').textContent"), "and says so")
    s.b.complaints()  # the browser notes the refused connections


def test_cancel_by_keyboard(s):
    s.fresh(quality="fast", steps="400")
    s.b.upload(s.picture("cancel.png", 40, 40, 3))
    s.b.wait(BUSY)
    s.b.js("document.getElementById('cancel').focus()")
    s.b.press("enter")
    s.b.wait(f"return {STATE} === 'Cancelled'", 10)
    check(s.d.curl(f"/v1/jobs/{s.job()}").json()["state"] == "cancelled", "for the server too")


def test_many_at_once(s):
    s.fresh(quality="fast", steps="2")
    s.b.upload(*(s.picture(f"many-{i}.png", 16, 16, 10 + i) for i in range(7)))
    count = "[...document.querySelectorAll('#jobs li[data-state=succeeded] .name')].filter(e => e.textContent.startsWith('many-')).length"
    s.b.wait(f"return {count} === 7", 40, "all seven are done")
    quiet(s)


def test_many_jobs_cost_one_stream(s):
    d = s.other(device="fake", fake_unit_us=80000, max_running=3)
    s.b.look(1280, 860, still=True)
    s.b.open(d.url + "/")
    s.b.wait("return document.querySelectorAll('#quality input').length")
    s.b.upload(*(s.picture(f"row-{i}.png", 24, 24, 60 + i) for i in range(3)))
    s.b.wait("return document.querySelectorAll('#jobs li[data-job]:not([data-job=\"\"])').length === 3", 20, "all are handed in")
    for i in range(12):  # and some that somebody else of this owner hands in
        d.job(textured(24, 24, 80 + i), "?steps=6")
    streams = lambda: int(d.curl("/metrics").body.split(b"\nyodad_sse_clients ")[1].split()[0])
    most = 0
    rows = "return document.querySelectorAll('#jobs li[data-state=succeeded]').length"
    deadline = time.monotonic() + 60
    while s.b.js(rows) < 3 and time.monotonic() < deadline:
        most = max(most, streams())
        time.sleep(0.05)
    check(s.b.js(rows) >= 3, "every row gets to its end", s.b.js(rows))
    check(most <= 2, "by its own stream and one for all the others", most)
    lists = [line for line in d.log_text().splitlines() if '"path":"/v1/jobs",' in line and '"method":"GET"' in line]
    check(len(lists) <= 2, "nobody asks for the list again and again", len(lists))
    s.b.open(s.d.url + "/livez")
    quiet(s)


def test_keyboard_and_divider(s):
    s.fresh()
    s.b.wait(DONE)
    s.b.js("document.activeElement.blur()")
    reached = []
    for _ in range(30):
        s.b.press("tab")
        reached.append(s.b.js("const e = document.activeElement; return e.id || e.className"))
    for wanted in ("file", "fidelity", "attention", "stage", "divider", "zoom-in", "download", "job"):
        check(wanted in reached, f"Tab reaches {wanted}", reached)
    s.b.js("document.querySelector('.divider').focus()")
    s.b.press("home", "right", "right")
    check(s.b.js("return document.querySelector('.divider').getAttribute('aria-valuenow')") == "4", "arrows move the divider")
    s.b.js("document.getElementById('stage').focus()")
    before = s.b.js("return parseInt(document.getElementById('zoom').textContent)")
    s.b.press("+")
    check(s.b.js("return parseInt(document.getElementById('zoom').textContent)") > before, "plus zooms")
    s.b.press("0")
    check(s.b.js("return parseInt(document.getElementById('zoom').textContent)") == before, "0 fits")


def test_a_refusal_is_told(s):
    s.fresh()
    path = os.path.join(s.dir, "broken.png")
    with open(path, "wb") as f:
        f.write(b"no picture at all")
    s.b.upload(path)
    s.b.wait(f"return {STATE} === 'Refused' && document.getElementById('problem').textContent.length > 10", 10)
    s.b.complaints()


def test_phone_and_looks(s):
    s.fresh()
    paper = "const c = getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number); return c[0] + c[1] + c[2]"
    light = s.b.js(paper)
    s.b.look(390, 844, dark=True, phone=True, still=True)
    check(s.b.js(paper) < 150 < 600 < light, "dark follows the system", light)
    check(s.b.js("return document.documentElement.scrollWidth") <= 390, "nothing sticks out of a phone's screen")
    small = s.b.js("return [...document.querySelectorAll('button, select, .primary')].filter(e => e.offsetParent && e.offsetHeight < 44).map(e => e.id)")
    check(not small, "everything is large enough for a finger", small)
    s.b.click("#theme")
    check(s.b.js(paper) > 600, "the switch wins")
    s.b.click("#theme")
    s.b.click("#theme")
    quiet(s)


def test_the_client_polls_without_streams(s):
    s.fresh()
    job = s.d.job(textured(24, 24, 77), "?steps=12")
    seen = s.b.js_async("""const [id, done] = arguments; import('/web/yoda-client.js').then(async ({ YodaClient }) => {
      const c = new YodaClient({ fetch: (u, o) => u.includes('/events') ? Promise.reject(new TypeError('cut')) : fetch(u, o) }), seen = [];
      for await (const e of c.watch(id)) seen.push([e.type, e.data.state]);
      done(seen); }).catch(e => done(String(e)))""", job)
    check(seen and seen[-1] == ["snapshot", "succeeded"], "it ends with the job", seen)


def make_picture(s, path):
    s.fresh(attention="learned", lower_bound="0.2", quality="best")
    s.b.upload("docs/images/chelsea.png")
    s.b.wait(DONE, 120)
    time.sleep(1)
    s.b.picture(path, format="webp", quality=82)
