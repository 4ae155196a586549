"""What hands do on the page: dragging, wheel, two fingers, pasting, dropping; and what is kept: the look, the key."""
import base64
import os

from harness import check, textured
from test_access import new_key
from test_page import BUSY, DONE, quiet

SHARE = "return Number(document.querySelector('.divider').getAttribute('aria-valuenow'))"
ZOOM = "return parseInt(document.getElementById('zoom').textContent)"
PLACE = "const m = new DOMMatrix(getComputedStyle(document.querySelector('.content')).transform); return [m.e, m.f, m.a]"

# A file out of its bytes, as clipboards and file managers hand it over.
FILE = """const bytes = Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0)), transfer = new DataTransfer();
    transfer.items.add(new File([bytes], arguments[1], { type: 'image/png' }));"""


def with_a_picture(s, salt):
    s.fresh(quality="fast", steps="2")
    s.b.upload(s.picture("hands.png", 40, 32, salt))
    s.b.wait(f"{DONE} && !document.querySelector('.divider').hidden && document.getElementById('title').textContent === 'hands.png'", 40)


def test_the_divider_is_dragged(s):
    with_a_picture(s, 40)
    s.b.mouse((0.5, 0.5), (0.6, 0.5), (0.7, 0.5))
    far = s.b.js(SHARE)
    s.b.mouse((0.7, 0.5), (0.5, 0.6), (0.35, 0.7))
    near = s.b.js(SHARE)
    check(far > 60 and near < 40, "it follows the mouse", (far, near))
    clip = s.b.js("return document.querySelector('.before').style.clipPath")
    check("%" in clip and clip != "inset(0px)", "and cuts the original", clip)
    s.b.mouse((0.5, 0.5), (0.5, 0.5))
    check(s.b.js(SHARE) == near, "a click that does not move leaves it")


def test_wheel_and_pan(s):
    with_a_picture(s, 41)
    fitted = s.b.js(ZOOM)
    s.b.wheel(240)
    check(s.b.js(ZOOM) == fitted, "the page scrolls while the picture fits")
    s.b.js("scrollTo(0, 0)")
    box = s.b.js("const b = document.getElementById('stage').getBoundingClientRect(); return [b.width, b.height]")
    before = s.b.js(PLACE)
    s.b.wheel(-240, 0.25, 0.5)
    after = s.b.js(PLACE)
    check(s.b.js(ZOOM) > fitted, "the wheel zooms")
    under = [(0.25 * box[0] - m[0]) / m[2] for m in (before, after)]
    check(abs(under[0] - under[1]) < 2.0, "about the pointer", under)
    share = s.b.js(SHARE)
    s.b.mouse((0.85, 0.5), (0.75, 0.5), (0.7, 0.45))
    moved = s.b.js(PLACE)
    check(abs(moved[0] - after[0]) > 20, "the zoomed picture is dragged", (after, moved))
    check(s.b.js(SHARE) == share, "the divider keeps its place on the screen")
    s.b.wheel(240)
    s.b.wheel(240)
    check(s.b.js(ZOOM) == fitted, "and back")
    quiet(s)


def test_two_fingers(s):
    with_a_picture(s, 42)
    s.b.look(390, 844, phone=True, still=True)
    s.b.js("document.getElementById('stage').scrollIntoView({ block: 'center', behavior: 'instant' })")
    x, y, w, h = s.b.js("const b = document.getElementById('stage').getBoundingClientRect(); return [b.left, b.top, b.width, b.height]")
    fitted, middle = s.b.js(ZOOM), (x + w / 2, y + h / 2)
    fingers = [[(middle[0] - d, middle[1]), (middle[0] + d, middle[1])] for d in (30, 50, 80, 110)]
    s.b.touch(*fingers)
    wide = s.b.js(ZOOM)
    check(wide > 2 * fitted, "spreading zooms in", (fitted, wide))
    s.b.touch(*reversed(fingers))
    s.b.touch(*reversed(fingers))
    check(s.b.js(ZOOM) == fitted, "pinching zooms out, to the whole picture", s.b.js(ZOOM))
    quiet(s)


def hand_over(s, name, picture, event):
    s.b.js(FILE + event, base64.b64encode(picture).decode(), name)


def test_paste_and_drop(s):
    s.fresh(quality="fast", steps="2")
    hand_over(s, "pasted.png", textured(16, 16, 43), "dispatchEvent(new ClipboardEvent('paste', { clipboardData: transfer, bubbles: true }))")
    s.b.wait(f"{DONE} && document.getElementById('title').textContent === 'pasted.png'", 40, "a pasted picture is taken")
    hand_over(s, "dropped.png", textured(16, 16, 44), "window.over = type => document.body.dispatchEvent(new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true })); over('dragenter')")
    check(s.b.js("return document.body.classList.contains('dropping')"), "the page says that it may be dropped")
    check(s.b.js("return !over('dragover')"), "and takes it from the browser")
    s.b.js("over('drop')")
    check(not s.b.js("return document.body.classList.contains('dropping')"), "the veil goes")
    s.b.wait(f"{DONE} && document.getElementById('title').textContent === 'dropped.png'", 40, "a dropped picture is taken")
    s.b.js("const t = new DataTransfer(); t.setData('text/plain', 'words'); window.kept = document.body.dispatchEvent("
           "new DragEvent('drop', { dataTransfer: t, bubbles: true, cancelable: true }))")
    check(s.b.js("return kept"), "words are left to the browser")
    quiet(s)


def test_the_look_is_kept(s):
    s.fresh()
    chosen = "return document.documentElement.dataset.theme || ''"
    s.b.click("#theme")
    s.b.click("#theme")
    check(s.b.js(chosen) == "dark", "the second look", s.b.js(chosen))
    s.b.js("location.reload()")
    s.b.wait("return document.querySelectorAll('#quality input').length")
    check(s.b.js(chosen) == "dark" and s.b.js("return document.getElementById('theme').textContent") == "Look: dark", "after a reload")
    s.b.click("#theme")
    check(s.b.js(chosen) == "" and not s.b.js("return localStorage.getItem('yoda-theme')"), "and back to the system's")


def test_a_key_is_asked_for(s):
    path = os.path.join(s.dir, "keys")
    key = new_key(path, "alice")
    d = s.other(device="fake", fake_unit_us=200, keys=path, max_pixels=64_000_000, content_cache=0)
    s.b.look(1280, 860, still=True)
    s.b.open(d.url + "/")
    s.b.wait("return document.getElementById('key-dialog').open", 10, "the dialog opens")
    s.b.js("document.getElementById('key').focus()")
    s.b.press(*"yk_wrong", "enter")
    s.b.wait("return document.getElementById('key-dialog').open", 10, "a wrong key is asked for again")
    s.b.js("document.getElementById('key').value = ''; document.getElementById('key').focus()")
    s.b.press(*key, "enter")
    s.b.wait("return document.querySelectorAll('#quality input').length && !document.getElementById('key-dialog').open", 10, "the right one opens")
    check(s.b.js("return localStorage.getItem('yoda-key')") is None, "it is kept for the tab only")
    s.b.upload(s.picture("guarded.png", 24, 24, 45))
    s.b.wait(DONE, 30)
    s.b.js("location.reload()")
    s.b.wait(DONE, 20, "a reload needs no key again")
    link = s.b.js_async("""const [id, done] = arguments; import('/web/yoda-client.js').then(async ({ YodaClient }) =>
      done((await fetch(await new YodaClient({ key: sessionStorage.getItem('yoda-key') }).link(id, 'result'))).status))""",
                        s.b.js("return location.hash.slice(1)"))
    check(link == 200, "a link with a token gets the result without the key", link)
    s.b.complaints()  # the browser notes the 401s


def test_a_large_result_is_downloaded_by_token(s):
    path = os.path.join(s.dir, "keys-large")
    key = new_key(path, "alice")
    d = s.other(device="fake", fake_unit_us=50, keys=path, max_pixels=64_000_000, content_cache=0)
    s.b.open(d.url + "/livez")
    s.b.js("sessionStorage.setItem('yoda-key', arguments[0]); localStorage.setItem('yoda-settings', '{\"steps\": \"1\", \"scale\": \"4\"}')", key)
    s.b.open(d.url + "/")
    s.b.wait("return document.querySelectorAll('#quality input').length")
    s.b.upload(s.picture("large.png", 1030, 1030, 46))
    s.b.wait(BUSY + f" || {DONE[7:]}", 60)
    s.b.wait(DONE, 120)
    s.b.wait("return document.getElementById('download').href.endsWith('/result')", 20)
    s.b.click("#download")
    job = s.b.js("return location.hash.slice(1)")
    target = os.path.join(s.b.dir, f"{job}.png")  # the server's name for it
    for _ in range(400):
        if os.path.exists(target):
            break
        s.b.js_async("setTimeout(arguments[0], 50)")
    a = d.curl(f"/v1/jobs/{job}/result", headers=(f"Authorization: Bearer {key}",))
    with open(target, "rb") as f:
        check(a.status == 200 and f.read() == a.body, "the download is the result")
    s.b.complaints()
