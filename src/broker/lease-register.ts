// The leases there are and, for a while, those there were: who may see which, what is shown of each, and who is told of changes.

import type { BackendName } from "./device.js";
import { type Lease, type LeaseView, leasePhase } from "./lease.js";
import { EndedLeases } from "./memory.js";
import type { Clock, Peer } from "./ports.js";
import { granted, type Outcome, refuse } from "./refusal.js";

export interface LeaseChange {
  readonly kind: "CHANGED" | "ENDED";
  readonly view: LeaseView;
}

interface Watcher {
  readonly peer: Peer;
  readonly listener: (change: LeaseChange) => void;
  /** Ids of the leases that it has been told of and that have not ended for it. */
  readonly seen: Set<string>;
}

export class LeaseRegister {
  readonly #backend: BackendName;
  readonly #clock: Clock;
  readonly #operators: ReadonlySet<number>;
  readonly #active = new Map<string, Lease>();
  readonly #byOwner = new Map<number, Set<Lease>>();
  readonly #ended: EndedLeases;
  readonly #watchers = new Set<Watcher>();

  constructor(deps: {
    backend: BackendName;
    clock: Clock;
    operators: readonly number[];
    limits: { readonly endedMs: number; readonly endedKept: number };
    onForgotten: (lease: Lease) => void;
  }) {
    this.#backend = deps.backend;
    this.#clock = deps.clock;
    this.#operators = new Set(deps.operators);
    this.#ended = new EndedLeases(deps.limits, deps.onForgotten);
  }

  get size(): number {
    return this.#active.size;
  }

  /** Leases that have not ended, oldest first. */
  all(): Iterable<Lease> {
    return this.#active.values();
  }

  /** Those that processes of this user have made. */
  ownedBy(uid: number): ReadonlySet<Lease> {
    return this.#byOwner.get(uid) ?? new Set();
  }

  /** One that has not ended. */
  get(id: string): Lease | null {
    return this.#active.get(id) ?? null;
  }

  add(lease: Lease): void {
    this.#active.set(lease.id, lease);
    const own = this.#byOwner.get(lease.owner.uid);
    if (own) own.add(lease);
    else this.#byOwner.set(lease.owner.uid, new Set([lease]));
  }

  /** It has ended. remember: its owner was told that there is such a lease. */
  over(lease: Lease, remember: boolean): void {
    this.#active.delete(lease.id);
    lease.vfTokens = null;
    const own = this.#byOwner.get(lease.owner.uid);
    own?.delete(lease);
    if (own?.size === 0) this.#byOwner.delete(lease.owner.uid);
    if (remember) this.#ended.add(lease, lease.endTime ?? this.#clock.now());
    this.#tell(lease, "ENDED", null);
    lease.markEnded();
  }

  /** Something of it is new. former: the holder that it has just passed from. */
  changed(lease: Lease, former: Peer | null = null): void {
    if (this.#active.has(lease.id)) this.#tell(lease, "CHANGED", former);
  }

  /** A lease of somebody else answers exactly as one that never was. */
  visible(peer: Peer, id: string): Outcome<Lease> {
    const lease = this.#active.get(id) ?? this.#ended.get(id);
    if (!lease || !this.#maySee(peer, lease)) return refuse("LEASE_NOT_FOUND", `there is no lease ${id}`, { leaseId: id });
    return granted(lease);
  }

  list(peer: Peer): readonly LeaseView[] {
    return [...this.#active.values()].filter((lease) => this.#maySee(peer, lease)).map((lease) => this.view(lease));
  }

  /** Calls back on every change of a lease that the peer may see; snapshot has those that there are now. `stop` ends it. */
  watch(peer: Peer, listener: (change: LeaseChange) => void): { readonly snapshot: readonly LeaseView[]; readonly stop: () => void } {
    const snapshot = this.list(peer);
    const watcher: Watcher = { peer, listener, seen: new Set(snapshot.map((view) => view.id)) };
    this.#watchers.add(watcher);
    return { snapshot, stop: () => this.#watchers.delete(watcher) };
  }

  view(lease: Lease): LeaseView {
    const { holder, owner, recall } = lease;
    // One plain literal: this is made for each answer, and spreads make it slow.
    return {
      id: lease.id,
      kind: lease.kind,
      mode: lease.mode,
      phase: leasePhase(lease),
      devices: lease.devices,
      descriptors: lease.descriptors,
      backend: this.#backend,
      holderPid: holder?.pid ?? 0,
      holderUid: (holder ?? owner).uid,
      ownerUid: owner.uid,
      policyRule: lease.terms.policyRule,
      createTime: lease.createTime,
      ackDeadline: lease.ackDeadline,
      endTime: lease.endTime,
      endCause: lease.endCause,
      quarantined: lease.quarantined,
      expireTime: lease.expireTime,
      ticketExpireTime: lease.ticket?.expireTime ?? null,
      recall: recall === null ? null : { cause: recall.cause, deadline: recall.deadline },
    };
  }

  /** Who sees and may release every lease. */
  isOperator(peer: Peer): boolean {
    return this.#operators.has(peer.uid);
  }

  #maySee(peer: Peer, lease: Lease): boolean {
    return lease.owner.uid === peer.uid || lease.holder?.uid === peer.uid || this.isOperator(peer);
  }

  #tell(lease: Lease, kind: LeaseChange["kind"], former: Peer | null): void {
    if (this.#watchers.size === 0) return;
    const view = this.view(lease);
    for (const watcher of this.#watchers) {
      if (this.#maySee(watcher.peer, lease)) {
        if (kind === "ENDED") watcher.seen.delete(lease.id);
        else watcher.seen.add(lease.id);
        watcher.listener({ kind, view });
      } else if (watcher.seen.delete(lease.id)) watcher.listener({ kind: "ENDED", view: this.#outOfSight(view, former) });
    }
  }

  /** What a user is told last of a lease that goes on with a successor of another user: nothing of who that is. */
  #outOfSight(view: LeaseView, former: Peer | null): LeaseView {
    const holder = former === null ? { holderPid: 0, holderUid: view.ownerUid } : { holderPid: former.pid, holderUid: former.uid };
    return { ...view, ...holder, phase: "ENDED", endCause: "SUCCEEDED", endTime: this.#clock.now() };
  }
}
