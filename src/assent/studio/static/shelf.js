// Where unsent answers lie on this device: IndexedDB with strict durability, or localStorage where there is none.

const DATABASE = "assent", STORE = "outbox", PREFIX = "assent.outbox.";

function settled(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

class IndexedShelf {
  constructor(database) { this.database = database; }

  static async open() {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "key" });
    return new IndexedShelf(await settled(request));
  }

  /** Resolves once the transaction is on the disk. */
  write(work) {
    return new Promise((resolve, reject) => {
      const transaction = this.database.transaction(STORE, "readwrite", { durability: "strict" });
      transaction.oncomplete = () => resolve();
      transaction.onabort = transaction.onerror = () => reject(transaction.error);
      work(transaction.objectStore(STORE));
    });
  }

  put(entry) { return this.write((store) => store.put(entry)); }

  remove(key) { return this.write((store) => store.delete(key)); }

  all() { return settled(this.database.transaction(STORE).objectStore(STORE).getAll()); }
}

class LocalShelf {
  async put(entry) { localStorage.setItem(PREFIX + entry.key, JSON.stringify(entry)); }

  async remove(key) { localStorage.removeItem(PREFIX + key); }

  async all() {
    return Object.keys(localStorage).filter((name) => name.startsWith(PREFIX)).map((name) => JSON.parse(localStorage.getItem(name)));
  }
}

/** The shelf of this browser. */
export async function openShelf() {
  try {
    return await IndexedShelf.open();
  } catch {
    return new LocalShelf();
  }
}
