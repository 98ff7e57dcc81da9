// The storage adapter of the provider: one bounded map that never evicts what is still valid.
//
// The adapter that ships with oidc-provider keeps the 1,000 newest entries and drops the rest in
// silence, so a longer test would lose grants and blame the broker. This one refuses when it is full.

const MAX_ENTRIES = 200_000;
const SWEEP_EVERY = 1_000;

export function store() {
  const entries = new Map();
  const grants = new Map();
  let writes = 0;

  function live(key) {
    const entry = entries.get(key);
    if (entry === undefined) return undefined;
    if (entry.expiresAt <= Date.now()) {
      drop(key);
      return undefined;
    }
    return entry.payload;
  }

  function drop(key) {
    const grantId = entries.get(key)?.payload.grantId;
    entries.delete(key);
    const members = grants.get(grantId);
    members?.delete(key);
    if (members?.size === 0) grants.delete(grantId);
  }

  function sweep() {
    for (const key of [...entries.keys()]) live(key);
  }

  return class Store {
    constructor(model) {
      this.model = model;
    }

    key(id) {
      return `${this.model}:${id}`;
    }

    async upsert(id, payload, expiresIn) {
      writes += 1;
      if (writes % SWEEP_EVERY === 0) sweep();
      const key = this.key(id);
      if (!entries.has(key) && entries.size >= MAX_ENTRIES) {
        throw new Error(`the store is full: ${MAX_ENTRIES} entries`);
      }
      drop(key);
      const expiresAt = typeof expiresIn === 'number' ? Date.now() + expiresIn * 1000 : Infinity;
      entries.set(key, { payload, expiresAt });
      if (payload.grantId !== undefined) {
        if (!grants.has(payload.grantId)) grants.set(payload.grantId, new Set());
        grants.get(payload.grantId).add(key);
      }
    }

    async find(id) {
      return live(this.key(id));
    }

    async findByUid(uid) {
      for (const [key, { payload }] of entries) {
        if (key.startsWith(`${this.model}:`) && payload.uid === uid) return live(key);
      }
      return undefined;
    }

    async findByUserCode(userCode) {
      for (const [key, { payload }] of entries) {
        if (key.startsWith(`${this.model}:`) && payload.userCode === userCode) return live(key);
      }
      return undefined;
    }

    async consume(id) {
      const payload = live(this.key(id));
      if (payload !== undefined) payload.consumed = Math.floor(Date.now() / 1000);
    }

    async destroy(id) {
      drop(this.key(id));
    }

    async revokeByGrantId(grantId) {
      for (const key of [...(grants.get(grantId) ?? [])]) drop(key);
    }
  };
}
