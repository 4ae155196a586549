// The list of one's pictures: a row each, made once and then only changed where something is new, so that focus and scrolling stay.

import { FINAL } from '/web/yoda-client.js';

/**
 * @typedef {Object} Entry one picture, from the moment it is dropped
 * @property {string} key what it is called here; the job's id once there is one
 * @property {string|null} id the job's, when the server has it
 * @property {string} name the file's, or what is known instead
 * @property {Object|null} job as the server last told it
 * @property {string} note what to say instead of the job's state: "sending 40 %", a refusal
 * @property {boolean} bad the note is a refusal
 * @property {string} thumb address of a small picture, or ''
 */

export const isOver = entry => entry.bad || (entry.job && FINAL.has(entry.job.state));

/** How far it is, 0 to 1. @param {Entry} entry */
export function share(entry) {
  const p = entry.job?.progress;
  if (!p) return 0;
  if (entry.job.state === 'succeeded') return 1;
  return p.windows_total ? Math.min(1, (p.windows_done + p.windows_skipped) / p.windows_total) : 0;
}

/** Its state in a few words. @param {Entry} entry */
export function words(entry) {
  if (entry.note) return entry.note;
  const job = entry.job;
  if (!job) return 'waiting to be sent';
  if (job.state === 'queued') return job.queue?.position > 1 ? `waiting, ${ordinal(job.queue.position)} in line` : 'next in line';
  if (job.state === 'running') return job.progress.step ? `step ${job.progress.step} of ${job.progress.steps}` : 'preparing';
  return { succeeded: 'done', failed: 'failed', cancelled: 'cancelled' }[job.state];
}

export function ordinal(n) {
  const rest = n % 100 > 10 && n % 100 < 14 ? 0 : n % 10;
  return n + (['th', 'st', 'nd', 'rd'][rest] || 'th');
}

/** A length of time for people. @param {number} s seconds */
export function span(s) {
  if (s < 1) return 'less than a second';
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  return `${(s / 3600).toFixed(1)} h`;
}

export class JobList {
  #rows = new Map();

  /** @param {HTMLUListElement} list @param {HTMLElement} empty shown without rows @param {(entry: Entry) => void} onSelect */
  constructor(list, empty, onSelect) {
    this.list = list;
    this.empty = empty;
    this.onSelect = onSelect;
  }

  /** Make the list show these, in this order. @param {Entry[]} entries @param {Entry|null} selected */
  show(entries, selected) {
    const wanted = new Set(entries);
    for (const [entry, row] of this.#rows) if (!wanted.has(entry)) { row.item.remove(); this.#rows.delete(entry); }
    entries.forEach((entry, i) => {
      const row = this.#row(entry);
      if (this.list.children[i] !== row.item) this.list.insertBefore(row.item, this.list.children[i] || null);
      this.#update(row, entry, entry === selected);
    });
    this.empty.hidden = entries.length > 0;
  }

  /** Move the focus to an entry's row, when it has one. */
  focus(entry) { this.#rows.get(entry)?.button.focus(); }

  #row(entry) {
    if (this.#rows.has(entry)) return this.#rows.get(entry);
    const row = { item: document.createElement('li'), button: document.createElement('button') };
    row.button.type = 'button';
    row.button.className = 'job';
    row.thumb = document.createElement('img');
    row.thumb.alt = '';
    row.thumb.width = row.thumb.height = 44;
    row.name = document.createElement('span');
    row.name.className = 'name';
    row.words = document.createElement('span');
    row.words.className = 'words';
    row.bar = document.createElement('i');
    row.bar.className = 'bar';
    row.button.append(row.thumb, row.name, row.words, row.bar);
    row.button.addEventListener('click', () => this.onSelect(entry));
    row.item.append(row.button);
    this.#rows.set(entry, row);
    return row;
  }

  #update(row, entry, selected) {
    if (row.name.textContent !== entry.name) row.name.textContent = entry.name;
    const said = words(entry), over = isOver(entry);
    if (row.words.textContent !== said) row.words.textContent = said;
    row.words.classList.toggle('bad', !!entry.bad || entry.job?.state === 'failed');
    row.bar.style.transform = `scaleX(${over ? 0 : share(entry)})`;
    if (selected) row.button.setAttribute('aria-current', 'true');
    else row.button.removeAttribute('aria-current');
    row.item.dataset.job = entry.id || '';
    row.item.dataset.state = entry.bad ? 'refused' : entry.job?.state || 'sending';
    if (entry.thumb && row.thumb.getAttribute('src') !== entry.thumb) row.thumb.src = entry.thumb;
    row.thumb.classList.toggle('none', !entry.thumb);
  }
}
