// A client of yodad's HTTP API for browsers and other places with fetch and ES modules. It depends on nothing.
//
//   import { YodaClient } from './yoda-client.js';
//   const yoda = new YodaClient();                                    // the server this module came from
//   const job = await yoda.submit(file, { quality: 'best', scale: 4 });
//   for await (const event of yoda.watch(job.id)) console.log(event.type, event.data);
//   const picture = await yoda.result(job.id);                        // a Blob
//
// watch() outlives what happens to connections: it comes back with the id of the last event it saw, waits longer from attempt to attempt,
// and asks for the job itself while streams do not get through. Whatever the server refuses is thrown as a YodaError.

/** Names of the events that end a job, which are also the states of a job that has ended. */
export const FINAL = new Set(['succeeded', 'failed', 'cancelled']);

const STREAM_SILENCE_MS = 45000; // the server says something every 15 s
const FIRST_WAIT_MS = 400;
const LONGEST_WAIT_MS = 15000;
const POLL_AFTER = 3; // streams that failed in a row
const SUBMIT_ATTEMPTS = 6;

/**
 * A refusal of the server (an RFC 9457 problem), or no answer at all (status 0).
 * @property {number} status HTTP status
 * @property {string} type as "/problems/invalid-setting"; empty without an answer
 * @property {string} title what kind of problem
 * @property {string} detail what is wrong in this case
 * @property {string} [field] the setting or header that is wrong
 * @property {string} [accepted] what would have been taken
 * @property {number} retryAfterMs how long to wait; 0 when the server does not say
 * @property {boolean} retryable the same request may succeed later
 */
export class YodaError extends Error {
  constructor(status, problem = {}, retryAfterMs = 0) {
    super(problem.detail || problem.title || (status ? `the server answered ${status}` : 'the server cannot be reached'));
    this.name = 'YodaError';
    this.status = status;
    this.type = problem.type || '';
    this.title = problem.title || '';
    this.detail = problem.detail || '';
    this.field = problem.field;
    this.accepted = problem.accepted;
    this.requestId = problem.request_id;
    this.retryAfterMs = problem.retry_after_ms || retryAfterMs;
    this.retryable = status === 0 || status === 429 || status === 503 || status === 507 || (status >= 502 && status <= 504);
  }
}

/**
 * @typedef {Object} YodaEvent
 * @property {number|null} id the event's id; null for a snapshot
 * @property {string} type queued, started, attention, step, preview, gap, succeeded, failed, cancelled; or snapshot: `data` is the whole job,
 *   because there was no stream to read
 * @property {Object} data see the API's description, /openapi.json
 */

export class YodaClient {
  #base;
  #fetch;

  /**
   * @param {Object} [options]
   * @param {string} [options.base] address of the server, as "https://pictures.example"; empty for the page's own
   * @param {string} [options.key] an API key, sent as a bearer token
   * @param {typeof fetch} [options.fetch] what to send requests with
   */
  constructor({ base = '', key = '', fetch: send } = {}) {
    this.#base = base.replace(/\/$/, '');
    this.#fetch = send || ((...request) => globalThis.fetch(...request));
    /** The API key; may be changed at any time. */
    this.key = key;
  }

  /**
   * Hand in a picture. A full queue (429, 503 with Retry-After) is waited for, and a broken connection tried again: all attempts carry one
   * Idempotency-Key, so that they make one job.
   * @param {Blob|ArrayBuffer|Uint8Array} picture an encoded picture
   * @param {Object} [settings] as quality, scale, attention; members that are null or '' are left to the server
   * @param {Object} [options]
   * @param {AbortSignal} [options.signal]
   * @param {(share: number) => void} [options.onUpload] told how much has been sent, 0 to 1 (browsers)
   * @param {(error: YodaError, ms: number) => void} [options.onWait] told when it has to wait before it tries again
   * @returns {Promise<Object>} the job
   */
  async submit(picture, settings = {}, { signal, onUpload, onWait } = {}) {
    const path = '/v1/jobs' + query(settings), name = randomName();
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#post(path, picture, name, signal, onUpload);
      } catch (error) {
        const again = error instanceof YodaError && [0, 429, 503].includes(error.status) && attempt < SUBMIT_ATTEMPTS;
        if (!again) throw error;
        const ms = Math.max(error.retryAfterMs, backoff(attempt));
        onWait?.(error, ms);
        await sleep(ms, signal);
      }
    }
  }

  /**
   * The events of a job, from the one after `after` to its end. Ends by itself after a final event, or a snapshot of a job that has ended.
   * @param {string} id
   * @param {Object} [options]
   * @param {AbortSignal} [options.signal] ends it, without an error
   * @param {number} [options.after] id of the last event that is known
   * @param {boolean} [options.inline] previews and maps carry their picture: data.image = {mime, base64}
   * @param {(state: 'live'|'lost'|'polling') => void} [options.onConnection] told when the connection changes
   * @yields {YodaEvent}
   */
  async *watch(id, { signal, after = 0, inline = false, onConnection = () => {} } = {}) {
    let last = after, failures = 0, wait = 0;
    while (!signal?.aborted) {
      try {
        for await (const event of this.#stream(id, last, inline, signal, () => onConnection('live'))) {
          failures = 0;
          if (event.id) last = event.id;
          yield event;
          if (FINAL.has(event.type)) return;
        }
        if (signal?.aborted) return;
        wait = 0;
      } catch (error) {
        if (signal?.aborted) return;
        if (error.status === 422 && last) last = 0; // a server that has forgotten some of the job: from the beginning
        else if (error instanceof YodaError && !error.retryable) throw error;
        wait = error.retryAfterMs || 0;
      }
      failures++;
      onConnection('lost');
      if (failures >= POLL_AFTER || last > 0) {
        const job = await this.#glimpse(id, signal);
        if (job && failures >= POLL_AFTER) {
          onConnection('polling');
          yield { id: null, type: 'snapshot', data: job };
          if (FINAL.has(job.state)) return;
        }
      }
      await sleep(Math.max(wait, backoff(failures)), signal).catch(() => {});
    }
  }

  /**
   * The events of all one's jobs, in one stream: `data.job` says whose. It begins with a snapshot (type "snapshot", `data.jobs`: the newest as
   * they are); a "gap" is one too, where events are not known any more. It goes on until the signal.
   * @param {Object} [options]
   * @param {AbortSignal} [options.signal] ends it, without an error
   * @param {number} [options.after] id of the last event of this stream that is known
   * @param {boolean} [options.previews] previews are drawn for it
   * @param {boolean} [options.inline] previews and maps carry their picture: data.image = {mime, base64}
   * @param {(state: 'live'|'lost') => void} [options.onConnection] told when the connection changes
   * @yields {YodaEvent}
   */
  async *watchAll({ signal, after = 0, previews = false, inline = false, onConnection = () => {} } = {}) {
    const path = '/v1/events' + query({ previews: previews ? 1 : 0, inline: inline ? 1 : 0 });
    let last = after;
    for (let failures = 0, wait = 0; !signal?.aborted;) {
      try {
        for await (const event of this.#read(path, last, signal, () => onConnection('live'))) {
          failures = wait = 0;
          if (event.id) last = event.id;
          yield event;
        }
      } catch (error) {
        if (signal?.aborted) return;
        if (error instanceof YodaError && !error.retryable) throw error;
        wait = error.retryAfterMs || 0;
      }
      if (signal?.aborted) return;
      onConnection('lost');
      await sleep(Math.max(wait, backoff(++failures)), signal).catch(() => {});
    }
  }

  /** Stop a job; what was asked for already ended jobs changes nothing. @param {string} id */
  async cancel(id) { await this.request(`/v1/jobs/${id}/cancel`, { method: 'POST' }); }

  /** Cancel if need be, and forget. @param {string} id */
  async remove(id) { await this.request(`/v1/jobs/${id}`, { method: 'DELETE' }); }

  /** One's jobs, newest first. @param {{state?: string, limit?: number, cursor?: string}} [which] @returns {Promise<{jobs: Object[], next: string|null}>} */
  async list(which = {}) { return this.json('/v1/jobs' + query(which)); }

  /** A job as it is now. @param {string} id @param {{wait?: number}} [options] */
  async job(id, options = {}) { return this.json(`/v1/jobs/${id}` + query(options)); }

  /** The result's file. @param {string} id @returns {Promise<Blob>} */
  async result(id) { return this.blob(`/v1/jobs/${id}/result`); }

  /** The picture as it is now, reduced. @param {string} id @param {number} [maxSide] @returns {Promise<Blob>} */
  async preview(id, maxSide) { return this.blob(`/v1/jobs/${id}/preview` + query({ max_side: maxSide }), 'image/jpeg'); }

  /** The attention map, grey. @param {string} id @returns {Promise<Blob>} */
  async attention(id) { return this.blob(`/v1/jobs/${id}/attention`); }

  /** Which pixels a step refines: white. @param {string} id @param {number} step from 1 @returns {Promise<Blob>} */
  async mask(id, step) { return this.blob(`/v1/jobs/${id}/mask` + query({ step })); }

  /** What was invented, of a job submitted with report=true. @param {string} id @returns {Promise<Blob>} */
  async invented(id) { return this.blob(`/v1/jobs/${id}/invented`); }

  /**
   * An address that needs no key for a while, for <a>, <img> and EventSource, which can send none.
   * @param {string} id @param {string} what result, preview, attention, mask?step=N, invented or events
   * @returns {Promise<string>}
   */
  async link(id, what) {
    const plain = `${this.#base}/v1/jobs/${id}/${what}`;
    if (!this.key) return plain;
    const { token } = await this.json('/v1/tokens' + query({ job: id }), { method: 'POST' });
    return `${plain}${what.includes('?') ? '&' : '?'}token=${encodeURIComponent(token)}`;
  }

  /** Limits, formats, attention methods, defaults. */
  async capabilities() { return this.json('/v1/capabilities'); }

  /** The models that were found; those whose state is "resident" take jobs. @returns {Promise<Object[]>} */
  async models() { return (await this.json('/v1/models')).models; }

  /** @param {string} path @param {RequestInit} [options] */
  async json(path, options) { return (await this.request(path, options)).json(); }

  /** @param {string} path @param {string} [accept] a media type */
  async blob(path, accept) { return (await this.request(path, accept ? { headers: { Accept: accept } } : {})).blob(); }

  /** Any request, with the key; throws a YodaError unless it is answered with 2xx. @returns {Promise<Response>} */
  async request(path, options = {}) {
    const headers = { ...this.#authorization(), ...options.headers };
    let answer;
    try {
      answer = await this.#fetch(this.#base + path, { ...options, headers });
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw new YodaError(0);
    }
    if (answer.ok) return answer;
    throw new YodaError(answer.status, await answer.json().catch(() => ({})), retryAfter(answer.headers.get('Retry-After')));
  }

  // ---- inside

  #authorization() { return this.key ? { Authorization: `Bearer ${this.key}` } : {}; }

  // Only XMLHttpRequest tells how much of a body has been sent.
  async #post(path, body, name, signal, onUpload) {
    const headers = { 'Content-Type': 'application/octet-stream', 'Idempotency-Key': name };
    if (!onUpload || typeof XMLHttpRequest === 'undefined') return this.json(path, { method: 'POST', body, headers, signal });
    return new Promise((resolve, reject) => {
      const x = new XMLHttpRequest();
      const stop = () => x.abort();
      x.open('POST', this.#base + path);
      x.responseType = 'json';
      for (const [name, value] of Object.entries({ ...headers, ...this.#authorization() })) x.setRequestHeader(name, value);
      x.upload.onprogress = e => { if (e.lengthComputable) onUpload(e.loaded / e.total); };
      x.onload = () => {
        if (x.status >= 200 && x.status < 300) resolve(x.response);
        else reject(new YodaError(x.status, x.response || {}, retryAfter(x.getResponseHeader('Retry-After'))));
      };
      x.onerror = () => reject(new YodaError(0));
      x.onabort = () => reject(new DOMException('cancelled', 'AbortError'));
      x.onloadend = () => signal?.removeEventListener('abort', stop);
      signal?.addEventListener('abort', stop);
      if (signal?.aborted) x.onabort();
      else x.send(body);
    });
  }

  async *#stream(id, last, inline, signal, onOpen) {
    for await (const event of this.#read(`/v1/jobs/${id}/events` + (inline ? '?inline=1' : ''), last, signal, onOpen)) {
      if (event.type !== 'nothing') { yield event; continue; }
      const job = await this.job(id); // nothing after `last`, nor will there be
      yield { id: null, type: FINAL.has(job.state) ? job.state : 'snapshot', data: job };
    }
  }

  // One connection: events until it ends, or `nothing` where the server says that there is none to come.
  async *#read(path, last, signal, onOpen) {
    const own = new AbortController();
    const stop = () => own.abort();
    let silence;
    const heard = () => { clearTimeout(silence); silence = setTimeout(stop, STREAM_SILENCE_MS); };
    signal?.addEventListener('abort', stop);
    heard();
    try {
      const headers = { Accept: 'text/event-stream' };
      if (last) headers['Last-Event-ID'] = String(last);
      const answer = await this.request(path, { headers, signal: own.signal, cache: 'no-store' });
      onOpen();
      if (answer.status === 204) yield { id: null, type: 'nothing', data: {} };
      else yield* events(answer.body, heard);
    } finally {
      clearTimeout(silence);
      signal?.removeEventListener('abort', stop);
      own.abort();
    }
  }

  // The job, or null when the server cannot be asked at present. What is no passing trouble is thrown.
  async #glimpse(id, signal) {
    try {
      return await this.json(`/v1/jobs/${id}`, { signal });
    } catch (error) {
      if (signal?.aborted || !(error instanceof YodaError) || error.retryable) return null;
      throw error;
    }
  }
}

/**
 * Server-sent events out of a stream of bytes.
 * @param {ReadableStream<Uint8Array>} body
 * @param {() => void} [heard] called whenever bytes arrive
 * @yields {YodaEvent}
 */
export async function* events(body, heard = () => {}) {
  const reader = body.getReader(), decoder = new TextDecoder();
  let rest = [], event = { id: null, type: 'message', data: '' };
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      heard();
      const lines = decoder.decode(value, { stream: true }).split('\n');
      rest.push(lines.shift());
      while (lines.length) {
        const line = rest.join('').replace(/\r$/, '');
        rest = [lines.shift()];
        if (line === '') {
          if (event.data) yield { ...event, data: JSON.parse(event.data) };
          event = { id: event.id, type: 'message', data: '' };
        } else {
          take(event, line);
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function take(event, line) {
  const colon = line.indexOf(':');
  if (colon <= 0) return; // a comment
  const name = line.slice(0, colon), value = line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1);
  if (name === 'id') event.id = Number(value);
  else if (name === 'event') event.type = value;
  else if (name === 'data') event.data += (event.data ? '\n' : '') + value;
}

function query(values) {
  const given = Object.entries(values).filter(([, v]) => v !== undefined && v !== null && v !== '');
  return given.length ? '?' + new URLSearchParams(given) : '';
}

// Not crypto.randomUUID(): pages of plain http have none.
function randomName() { return Array.from(crypto.getRandomValues(new Uint8Array(16)), b => b.toString(16).padStart(2, '0')).join(''); }

// Doubling, with a random half so that many clients do not come back at one moment.
function backoff(attempt) {
  const ms = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (attempt - 1));
  return ms / 2 + Math.random() * ms / 2;
}

function retryAfter(seconds) { return seconds && Number(seconds) > 0 ? Number(seconds) * 1000 : 0; }

function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => { clearTimeout(timer); reject(new DOMException('cancelled', 'AbortError')); };
    const timer = setTimeout(() => { signal?.removeEventListener('abort', stop); resolve(); }, ms);
    if (signal?.aborted) stop();
    else signal?.addEventListener('abort', stop, { once: true });
  });
}
