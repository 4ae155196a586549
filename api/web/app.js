// The page: takes pictures, keeps the list of jobs, and shows the one that is looked at.
//
//   drop, paste, choose -> entries -> (two uploads at a time) -> jobs -> list, panel, viewer
//
// One job is watched by its event stream, with pictures; the others by one stream together, because a browser opens six connections to a server
// and every stream takes one. The address names the job that is looked at, so a reload goes on with it.
// Read next: yoda-client.js (the API), viewer.js (the stage), jobs.js, panel.js, settings.js.

import { FINAL, YodaClient } from '/web/yoda-client.js';
import { JobList, isOver, words } from '/web/jobs.js';
import { showPanel, tabTitle } from '/web/panel.js';
import { Viewer } from '/web/viewer.js';
import { fromBase64, paintAttention, paintMask, paintPicture } from '/web/paint.js';
import * as settings from '/web/settings.js';
import * as sources from '/web/sources.js';

const $ = id => document.getElementById(id);
const UPLOADS = 2;
const POLL_HIDDEN_MS = 6000;
const SHOWN_PIXELS = 16e6; // of larger results the stage shows a reduced one
const client = new YodaClient({ key: stored(sessionStorage, 'yoda-key') });
const viewer = new Viewer($('stage'), zoom => { $('zoom').textContent = `${Math.round(zoom * 100)} %`; });
const list = new JobList($('jobs'), $('history-empty'), entry => select(entry));
let entries = []; // newest first
let selected = null, cursor = null;
let view = null; // of the selected one: what its layers hold, and the addresses to release
let drawing = 0, uploading = 0, limits = null;

function stored(store, name) { try { return store.getItem(name) || ''; } catch { return ''; } }
function say(text) { $('live').textContent = text; }

// ---- drawing, at most once a frame

function refresh() {
  drawing ||= requestAnimationFrame(() => {
    drawing = 0;
    list.show(entries, selected);
    showPanel(selected, { connection: view?.connection, hasSource: !!view?.source, hasMask: masked(selected) });
    document.title = tabTitle(entries);
  });
}

// Has this job masks that are worth showing?
function masked(entry) {
  const s = entry?.job?.settings;
  return !!s && s.attention !== 'constant' && s.lower_bound < 1 && entry.job.progress.steps > 0 && !entry.bad && !!entry.job.started;
}

function pressed(id) { return $(id).getAttribute('aria-pressed') === 'true'; }
function press(id, on) { $(id).setAttribute('aria-pressed', String(on)); }

// ---- handing in

function take(files) {
  const fresh = [...files].map((file, i) => ({
    key: `new-${Date.now()}-${i}`, id: null, name: file.name || 'pasted picture', job: null, note: '', bad: false, thumb: '', shares: [], last: 0,
    file, settings: settings.chosen(), control: new AbortController(),
  }));
  if (!fresh.length) return;
  for (const entry of fresh) entry.thumb = URL.createObjectURL(entry.file);
  entries = [...fresh].reverse().concat(entries);
  say(fresh.length === 1 ? `${fresh[0].name} added` : `${fresh.length} pictures added`);
  select(fresh[0]);
  if (matchMedia('(max-width: 719px)').matches) $('title').scrollIntoView({ block: 'start', behavior: 'auto' });
  upload();
}

function upload() {
  const next = entries.findLast(e => e.file && !e.id && !e.bad && !e.sending);
  if (!next || uploading >= UPLOADS) return;
  uploading++;
  next.sending = true;
  send(next).finally(() => { uploading--; upload(); });
  upload();
}

async function send(entry) {
  const file = entry.file;
  try {
    const job = await client.submit(file, entry.settings, {
      signal: entry.control.signal,
      onUpload: part => { entry.note = part < 1 ? `sending ${Math.round(100 * part)} %` : ''; refresh(); },
      onWait: (error, ms) => { entry.note = `${error.status ? 'the queue is full' : 'not connected'}, again in ${Math.ceil(ms / 1000)} s`; refresh(); },
    });
    await sources.keep(job.id, file, entry.name);
    const faster = entries.find(e => e.id === job.id); // the list may have been, and knows more then
    Object.assign(entry, { id: job.id, key: job.id, job: faster?.job || job, note: '', file: null });
    entries = entries.filter(e => e !== faster);
    if (entry === selected) open(entry);
    else if (early.has(job.id)) learnEnd(entry);
    if (!entries.some(e => !e.id && !e.bad)) early.clear();
    watchOthers();
  } catch (error) {
    if (entry.control.signal.aborted) return;
    entry.bad = true;
    entry.note = error.title ? error.title.toLowerCase() : 'not sent';
    entry.detail = error.detail ? error.detail + (error.accepted ? `; accepted: ${error.accepted}` : '') : error.message;
    entry.detail = entry.detail.replace(/^./, c => c.toUpperCase()) + '.';
    say(`${entry.name}: refused. ${entry.detail}`);
    needKey(error);
  }
  refresh();
}

// ---- looking at one

function select(entry) {
  if (entry === selected && view) return;
  selected = entry;
  history.replaceState(null, '', entry?.id ? `#${entry.id}` : location.pathname);
  open(entry);
  watchOthers();
}

function release(old) {
  old?.control.abort();
  for (const url of old?.urls || []) URL.revokeObjectURL(url);
}

async function open(entry) {
  release(view);
  const mine = view = { entry, control: new AbortController(), urls: [], connection: 'live', source: null, mapped: false, mask: 0, masking: false };
  history.replaceState(null, '', entry?.id ? `#${entry.id}` : location.pathname);
  $('map').hidden = true;
  $('map-hint').hidden = false;
  $('map-hint').textContent = 'The map says where the work goes. It appears as soon as a job starts.';
  for (const id of ['show-attention', 'show-invented']) { $(id).disabled = true; press(id, false); }
  const job = entry?.job;
  viewer.open(job?.output.width || 0, job?.output.height || 0);
  refresh();
  if (!job) return;
  const source = await sources.find(entry.id);
  if (mine !== view) return;
  mine.source = source || null;
  if (source) await viewer.setBefore(address(mine, source.blob));
  if (mine !== view) return;
  refresh();
  if (FINAL.has(job.state)) { finish(mine, false); return; }
  if (job.progress.step) showPreview(mine);
  if (source && !job.progress.step) paint(mine, viewer.preview, paintPicture, source.blob);
  follow(mine);
}

function address(of, blob) {
  const url = URL.createObjectURL(blob);
  of.urls.push(url);
  return url;
}

// Paint unless something else is looked at by then; what cannot be painted stays as it is.
async function paint(mine, canvas, painter, blob) {
  if (mine !== view) return;
  try {
    await painter(canvas, blob);
  } catch { /* a format this browser does not draw */ }
}

async function showPreview(mine) {
  try {
    await paint(mine, viewer.preview, paintPicture, await client.preview(mine.entry.id));
  } catch { /* not that far: events will tell */ }
}

async function showAttention(mine, image) {
  if (mine.mapped || mine !== view) return;
  const s = mine.entry.job.settings;
  if (s.attention === 'constant') {
    $('map-hint').textContent = 'No map: this job gives every pixel every step. Choose an attention method to see the work follow it.';
    return;
  }
  mine.mapped = true;
  try {
    const blob = image ? fromBase64(image) : await client.attention(mine.entry.id);
    if (mine !== view) return;
    await paintAttention($('map'), blob);
    await paintAttention(viewer.attention, blob);
    $('map').setAttribute('aria-label', `Attention map, method ${s.attention}`);
    $('map').hidden = false;
    $('map-hint').hidden = true;
    $('show-attention').disabled = false;
  } catch {
    mine.mapped = false;
  }
}

// The newest mask that is wanted; steps that pass while one is on its way are left out.
async function showMask(mine, step) {
  mine.mask = step;
  const wanted = () => mine === view && masked(mine.entry) && pressed('show-mask') && mine.mask > 0;
  if (!wanted()) { viewer.mask.hidden = true; return; }
  if (mine.masking) return;
  mine.masking = true;
  try {
    for (let shown = 0; wanted() && shown !== mine.mask;) {
      shown = mine.mask;
      const blob = await client.mask(mine.entry.id, shown);
      if (!wanted()) break;
      await paintMask(viewer.mask, blob);
      viewer.mask.dataset.step = shown;
      viewer.mask.hidden = false;
    }
  } catch { /* not stored any more, or the connection is gone */ }
  mine.masking = false;
  if (!wanted()) viewer.mask.hidden = true;
}

// ---- what the server tells

// Of any job.
const heardOf = {
  queued: (entry, d) => { entry.job.queue = { position: d.position, eta_s: d.eta_s }; },
  started: (entry, d) => {
    Object.assign(entry.job, { state: 'running', started: entry.job.started || new Date().toISOString(), queue: { position: 0, eta_s: d.eta_s } });
  },
  attention: (entry, d) => { Object.assign(entry.job.progress, { windows_total: d.windows_total, diffused_share: d.diffused_share }); },
  step: (entry, d) => {
    const p = entry.job.progress;
    entry.shares[d.step] = d.active_share;
    if (d.step > p.step) { p.windows_done += d.windows_run; p.windows_skipped += d.windows_skipped; }
    Object.assign(p, { step: Math.max(p.step, d.step), steps: d.steps });
    Object.assign(entry.job, { state: 'running', queue: { position: 0, eta_s: d.eta_s } });
  },
};

// Of the one that is looked at.
const heard = {
  queued: heardOf.queued,
  started: (entry, d) => { heardOf.started(entry, d); say(`${entry.name}: started`); },
  attention: (entry, d, mine) => { heardOf.attention(entry, d); showAttention(mine, d.image); },
  step: (entry, d, mine) => { heardOf.step(entry, d); showMask(mine, d.step); },
  preview: (entry, d, mine) => { if (d.image) paint(mine, viewer.preview, paintPicture, fromBase64(d.image)); },
  gap: (entry, d, mine) => { if (d.job) heard.snapshot(entry, d.job, mine); },
  snapshot: (entry, d, mine) => {
    entry.job = d;
    if (d.progress.step) { showPreview(mine); showAttention(mine); showMask(mine, d.progress.step); }
  },
};

async function follow(mine) {
  const { entry, control } = mine;
  try {
    const stream = client.watch(entry.id, {
      signal: control.signal, inline: true, after: entry.last, onConnection: state => { mine.connection = state; refresh(); },
    });
    if (entry.last) { showAttention(mine); showMask(mine, entry.job.progress.step); }
    for await (const event of stream) {
      if (mine !== view) return;
      if (event.id) entry.last = event.id;
      heard[event.type]?.(entry, event.data, mine);
      refresh();
    }
    if (mine !== view) return;
    entry.job = await client.job(entry.id);
    await finish(mine, true);
  } catch (error) {
    if (mine !== view || control.signal.aborted) return;
    if (error.status === 404 || error.status === 410) forget(entry, `${entry.name}: the server has forgotten it`);
    needKey(error);
  }
  refresh();
}

// The job has ended: show what became of it.
async function finish(mine, live) {
  const { entry } = mine, job = entry.job;
  if (mine !== view) return;
  if (live) say(`${entry.name}: ${words(entry)}`);
  thumbnail(entry);
  refresh();
  if (job.state !== 'succeeded') {
    if (mine.source && !live) paint(mine, viewer.preview, paintPicture, mine.source.blob);
    return;
  }
  $('scrub').value = job.settings.steps;
  press('show-mask', false);
  showMask(mine, job.settings.steps);
  showAttention(mine);
  await showResult(mine);
  if (mine !== view) return;
  if (live) viewer.reveal();
  else viewer.split(0.5);
  if (job.invented) showInvented(mine);
  refresh();
}

async function showResult(mine) {
  const { id, job, name } = mine.entry, link = $('download');
  const small = job.output.width * job.output.height <= SHOWN_PIXELS;
  link.setAttribute('download', `${name.replace(/\.\w+$/, '')}-${job.output.width}.${job.output.format === 'jpeg' ? 'jpg' : job.output.format}`);
  link.href = `/v1/jobs/${id}/result`;
  try {
    const result = small ? await client.result(id) : null;
    if (mine !== view) return;
    if (result) link.href = address(mine, result); // what is here already need not be fetched again
    const drawn = result && await viewer.setResult(link.href);
    if (!drawn && mine === view) await viewer.setResult(address(mine, await client.preview(id, 4096)));
    viewer.result.alt = `${name}, enlarged`;
  } catch (error) {
    needKey(error);
  }
}

// A large result goes from the server straight to the disk. A link carries no key, so it is given a token when it is followed.
async function download(event) {
  const link = $('download'), entry = selected;
  if (!client.key || !entry?.id || link.href.startsWith('blob:') || !event.isTrusted) return;
  event.preventDefault();
  await attempt(async () => {
    link.href = await client.link(entry.id, 'result');
    link.click();
  });
}

async function showInvented(mine) {
  try {
    const url = address(mine, await client.invented(mine.entry.id));
    if (mine === view && await viewer.setInvented(url)) $('show-invented').disabled = false;
  } catch { /* the job was not asked for it */ }
}

// ---- the others

let others = null; // the stream of all jobs: its control, and whether it can be read at present
let othersAfter = 0; // the last event of it
const early = new Set(); // jobs that it said had ended before the answer to their picture was here

// There is something to learn of jobs that are not looked at. A page that nobody sees asks now and then instead of holding a connection.
const curious = () => entries.some(e => e.id && !isOver(e) && e !== selected);

function watchOthers() {
  clearTimeout(pollTimer);
  if (!curious()) { stopOthers(); return; }
  if (document.hidden) { stopOthers(); pollTimer = setTimeout(poll, POLL_HIDDEN_MS); return; }
  if (!others) followOthers();
}

let pollTimer = 0;

function stopOthers() {
  others?.abort();
  others = null;
}

async function poll() {
  try {
    if (curious()) merge(await client.list({ limit: Math.min(200, entries.length + 10) }), false);
  } catch (error) {
    needKey(error);
  }
  refresh();
  watchOthers();
}

// One stream for every job that is not looked at, however many there are.
async function followOthers() {
  const mine = others = new AbortController();
  try {
    for await (const event of client.watchAll({ signal: mine.signal, after: othersAfter })) {
      if (mine !== others) return;
      if (event.id) othersAfter = event.id;
      hearOthers(event);
      refresh();
      if (!curious()) break;
    }
  } catch (error) {
    if (mine === others) needKey(error);
  }
  if (mine === others) stopOthers();
}

function hearOthers({ type, data }) {
  if (type === 'snapshot' || type === 'gap') { merge({ jobs: data.jobs }, false); return; }
  const entry = entries.find(e => e.id === data.job);
  if (!entry && FINAL.has(type) && entries.some(e => !e.id && !e.bad)) early.add(data.job);
  if (!entry || entry === selected || isOver(entry)) return;
  if (FINAL.has(type)) learnEnd(entry);
  else heardOf[type]?.(entry, data);
}

// The event says that it has ended; what became of it, its job.
async function learnEnd(entry) {
  try {
    merge({ jobs: [await client.job(entry.id)] }, false);
  } catch (error) {
    if (error.status === 404 || error.status === 410) forget(entry, `${entry.name}: deleted`);
  }
  refresh();
}

// Take over what the server lists. The watched job is better known from its stream.
function merge(page, complete) {
  for (const job of page.jobs) {
    let entry = entries.find(e => e.id === job.id);
    if (entry === selected && entry && !complete) continue;
    const ended = entry && !isOver(entry) && FINAL.has(job.state);
    if (!entry) {
      entry = { key: job.id, id: job.id, name: `${job.input.width} × ${job.input.height} ${job.input.format}`, note: '', bad: false, thumb: '', shares: [], last: 0 };
      entries.push(entry);
      sources.find(job.id).then(s => { if (s) { entry.name = s.name; refresh(); } });
    }
    entry.job = job;
    if (ended) say(`${entry.name}: ${words(entry)}`);
    if (FINAL.has(job.state)) thumbnail(entry);
  }
  const newness = e => (e.job ? Date.parse(e.job.created) : Infinity);
  entries.sort((a, b) => (newness(b) === newness(a) ? 0 : newness(b) - newness(a)));
  if (complete) cursor = page.next;
}

async function thumbnail(entry) {
  if (entry.thumbed) return;
  entry.thumbed = true;
  try {
    const blob = entry.job.state === 'succeeded' ? await client.preview(entry.id, 96) : (await sources.find(entry.id))?.blob;
    if (!blob) return;
    if (entry.thumb) URL.revokeObjectURL(entry.thumb);
    entry.thumb = URL.createObjectURL(blob);
    refresh();
  } catch { /* a row without a picture */ }
}

async function older() {
  merge(await client.list({ limit: 20, cursor }), true);
  $('older').hidden = !cursor;
  refresh();
}

// ---- buttons and keys

function forget(entry, why) {
  const at = entries.indexOf(entry);
  entries = entries.filter(e => e !== entry);
  if (entry.thumb) URL.revokeObjectURL(entry.thumb);
  if (entry.id) sources.forget(entry.id);
  say(why);
  if (entry === selected) select(entries[Math.min(at, entries.length - 1)] || null);
  refresh();
}

async function cancel() {
  const entry = selected;
  if (!entry) return;
  if (!entry.id) { entry.control.abort(); forget(entry, `${entry.name}: not sent`); return; }
  await attempt(() => client.cancel(entry.id));
}

async function remove() {
  const entry = selected;
  if (!entry) return;
  if (entry.id && !await attempt(() => client.remove(entry.id))) return;
  forget(entry, `${entry.name}: deleted`);
  if (selected) list.focus(selected);
  else $('file').focus();
}

async function attempt(action) {
  try {
    await action();
    return true;
  } catch (error) {
    if (error.status === 404 || error.status === 410) return true;
    say(error.message);
    needKey(error);
    return false;
  }
}

function toggle(id, layer) {
  $(id).addEventListener('click', () => {
    const on = !pressed(id);
    press(id, on);
    if (layer) viewer[layer].hidden = !on;
    else showMask(view, Number($('scrub').value));
    refresh();
  });
}

function needKey(error) {
  if ((error.status === 401 || error.status === 403) && !$('key-dialog').open) $('key-dialog').showModal();
}

function connectButtons() {
  $('file').addEventListener('change', e => { take(e.target.files); e.target.value = ''; });
  $('cancel').addEventListener('click', cancel);
  $('remove').addEventListener('click', remove);
  $('again').addEventListener('click', () => { if (view?.source) take([new File([view.source.blob], view.source.name)]); });
  $('download').addEventListener('click', download);
  $('older').addEventListener('click', () => attempt(older));
  $('zoom-in').addEventListener('click', () => viewer.zoomBy(1.5));
  $('zoom-out').addEventListener('click', () => viewer.zoomBy(1 / 1.5));
  $('zoom-fit').addEventListener('click', () => viewer.fit());
  toggle('show-mask', null);
  toggle('show-attention', 'attention');
  toggle('show-invented', 'invented');
  $('scrub').addEventListener('input', e => showMask(view, Number(e.target.value)));
  $('key-form').addEventListener('submit', e => {
    e.preventDefault();
    client.key = $('key').value;
    try { sessionStorage.setItem('yoda-key', client.key); } catch { /* until the page is left */ }
    $('key-dialog').close();
    begin();
  });
  addEventListener('hashchange', () => { const entry = entries.find(e => e.id === location.hash.slice(1)); if (entry) select(entry); });
  document.addEventListener('visibilitychange', watchOthers);
}

function connectDrops() {
  let depth = 0;
  const holdsFiles = e => e.dataTransfer?.types.includes('Files');
  const mark = () => document.body.classList.toggle('dropping', depth > 0);
  addEventListener('dragenter', e => { if (holdsFiles(e)) { depth++; mark(); } });
  addEventListener('dragleave', e => { if (holdsFiles(e)) { depth = Math.max(0, depth - 1); mark(); } });
  addEventListener('dragover', e => { if (holdsFiles(e)) e.preventDefault(); });
  addEventListener('drop', e => {
    if (!holdsFiles(e)) return;
    e.preventDefault();
    depth = 0;
    mark();
    take(e.dataTransfer.files);
  });
  addEventListener('paste', e => {
    const files = [...e.clipboardData?.files || []].filter(f => f.type.startsWith('image/'));
    if (files.length) take(files);
  });
}

function connectTheme() {
  const looks = ['', 'light', 'dark'], show = look => {
    if (look) document.documentElement.dataset.theme = look;
    else delete document.documentElement.dataset.theme;
    $('theme').textContent = `Look: ${look || 'auto'}`;
  };
  let now = looks.indexOf(stored(localStorage, 'yoda-theme'));
  show(looks[now] || '');
  $('theme').addEventListener('click', () => {
    now = (now + 1) % looks.length;
    show(looks[now]);
    try { localStorage.setItem('yoda-theme', looks[now]); } catch { /* until the page is left */ }
  });
}

function megapixels(n) { return (n / 1e6).toFixed(1).replace(/\.0$/, ''); }

async function begin() {
  try {
    const [capabilities, models] = await Promise.all([client.capabilities(), client.models()]);
    limits = capabilities.limits;
    settings.fill(capabilities, models.filter(m => m.state === 'resident').sort((a, b) => b.default - a.default));
    $('limits').textContent = `${capabilities.formats.input.map(f => f.toUpperCase()).join(', ')}. Up to ${megapixels(limits.max_pixels)} megapixels.`;
    merge(await client.list({ limit: 20 }), true);
    $('older').hidden = !cursor;
    for (const entry of entries) if (entry.job && FINAL.has(entry.job.state)) thumbnail(entry);
    if (!selected) select(entries.find(e => e.id === location.hash.slice(1)) || entries[0] || null);
    watchOthers();
  } catch (error) {
    if (error.status === 401 || error.status === 403) needKey(error);
    else setTimeout(begin, Math.max(2000, error.retryAfterMs || 0)); // still loading, or not there
    $('limits').textContent = error.status === 503 ? 'The server is loading its model.' : error.message;
  }
  refresh();
}

$('origin').textContent = location.origin;
connectButtons();
connectDrops();
connectTheme();
begin();
