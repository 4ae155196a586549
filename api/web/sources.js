// What this browser handed in: the server does not give sources back, so the page keeps the last ones, for "before" and for doing it again.
// In IndexedDB by job id; without it (private windows) in memory, until the page is left.

const KEEP = 40;
const memory = new Map();
let opening;

function open() {
  opening ||= new Promise((resolve, reject) => {
    const request = indexedDB.open('yoda-sources', 1);
    request.onupgradeneeded = () => request.result.createObjectStore('sources', { keyPath: 'id' }).createIndex('at', 'at');
    request.onsuccess = () => resolve(request.result);
    request.onerror = request.onblocked = () => reject(request.error);
  }).catch(() => null);
  return opening;
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** Remember a job's source. @param {string} id @param {Blob} blob @param {string} name the file's */
export async function keep(id, blob, name) {
  const entry = { id, blob, name, at: Date.now() };
  memory.set(id, entry);
  const db = await open();
  if (!db) return;
  try {
    const store = db.transaction('sources', 'readwrite').objectStore('sources');
    await done(store.put(entry));
    const ids = await done(store.index('at').getAllKeys());
    for (const old of ids.slice(0, Math.max(0, ids.length - KEEP))) { store.delete(old); memory.delete(old); }
  } catch { /* no room: what is in memory has to do */ }
}

/** The source of a job: {blob, name}; undefined when this browser has not got it. @param {string} id */
export async function find(id) {
  if (memory.has(id)) return memory.get(id);
  const db = await open();
  if (!db) return undefined;
  try {
    const entry = await done(db.transaction('sources').objectStore('sources').get(id));
    if (entry) memory.set(id, entry);
    return entry;
  } catch {
    return undefined;
  }
}

/** Forget it. @param {string} id */
export async function forget(id) {
  memory.delete(id);
  const db = await open();
  if (db) await done(db.transaction('sources', 'readwrite').objectStore('sources').delete(id)).catch(() => {});
}
