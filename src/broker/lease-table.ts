// The life of a claim (the devices of one atomic set, locked together), as one table: state × event → next state and effects. Everything that may
// happen to a leased device passes here, so this is the page to read when asking "what if the client dies while ...".
// src/broker/leases.ts carries the effects out.
//
//   FREE ─RESERVE→ RESERVED ─END→ FREE
//    │                │
//    │              SHOWN
//    │                ↓
//   FREE ─ACQUIRE→ OPENING ─OPENED→ OFFERED ─ACKED, RETAINED→ HELD
//    ↑                │                │                        │
//    ├── OPEN_FAILED ─┘                └────────── END ─────────┴→ RELEASING ─PROVEN→ RESETTING ─RESET_OK→ FREE
//                                                                   ↑   │                │
//                                                                RETRY  NOT_PROVEN   RESET_FAILED
//                                                                   └─ QUARANTINED ←─────┘
//
// A lease that passes to a successor stays HELD: its devices do not notice who holds it.
//
// A change of drivers (driver-changes.ts) locks the same sets by the same rules, and is no lease: FREE ─REBIND→ REBINDING ─REBOUND→ FREE

export type LeaseState =
  | ("FREE" | "RESERVED" | "OPENING" | "OFFERED" | "HELD" | "RELEASING" | "RESETTING" | "QUARANTINED" | "REMOVED")
  | "REBINDING";

export type LeaseEvent =
  /** A client asked and policy allowed it: the whole atomic set is locked. */
  | "ACQUIRE"
  /** The same, for whoever shows the ticket: nothing is opened. */
  | "RESERVE"
  /** The ticket was shown. */
  | "SHOWN"
  /** Descriptors are open and were sent. */
  | "OPENED"
  /** Nothing was sent, and whatever was opened is closed again. */
  | "OPEN_FAILED"
  /** The client has all descriptors, and the broker keeps none of a device lease (HAND_OFF). */
  | "ACKED"
  /** The client has all descriptors, and the broker keeps the open files for a successor (RETAIN). */
  | "RETAINED"
  /** Release, death of the holder, no or a short acknowledgement, a ticket or a time that is over. */
  | "END"
  /** The kernel says that nobody else holds the devices. */
  | "PROVEN"
  /** The kernel says that somebody does, or could not be asked. */
  | "NOT_PROVEN"
  /** Reset done; or there is none, and the tenant rule takes over (src/broker/tenant.ts). */
  | "RESET_OK"
  | "RESET_FAILED"
  /** A quarantined set is tried again: a process exited, or time has passed. */
  | "RETRY"
  /** A device of the set left the machine. */
  | "REMOVED"
  /** The operator wants other drivers for devices of the set. */
  | "REBIND"
  /** The caller was answered, and the kernel has not finished: the set stays locked. */
  | "REBIND_LATE"
  /** The kernel has finished, whatever came of it. */
  | "REBOUND";

export type LeaseEffect =
  /** The lease ends as soon as opening has: there is nothing to close yet. */
  | "DOOM"
  /** Close the broker's copies of what was handed off. */
  | "DROP_COPIES"
  /** Close everything, then ask the kernel whether the devices are free. */
  | "PROVE"
  /** Reset and check the result. */
  | "RESET"
  /** Unlock; the claim is over. */
  | "UNLOCK"
  /** The lease is over; the devices stay locked and are tried again. */
  | "QUARANTINE";

export interface Transition {
  readonly next: LeaseState;
  readonly effects: readonly LeaseEffect[];
}

const TABLE: Readonly<Record<LeaseState, Partial<Record<LeaseEvent, Transition>>>> = {
  FREE: {
    ACQUIRE: { next: "OPENING", effects: [] },
    RESERVE: { next: "RESERVED", effects: [] },
    REBIND: { next: "REBINDING", effects: [] },
  },
  // Nobody has had anything: no proof and no reset are due.
  RESERVED: {
    SHOWN: { next: "OPENING", effects: [] },
    END: { next: "FREE", effects: ["UNLOCK"] },
    REMOVED: { next: "FREE", effects: ["UNLOCK"] },
  },
  OPENING: {
    OPENED: { next: "OFFERED", effects: [] },
    // No client has touched the devices: no proof and no reset are due.
    OPEN_FAILED: { next: "FREE", effects: ["UNLOCK"] },
    END: { next: "OPENING", effects: ["DOOM"] },
    REMOVED: { next: "OPENING", effects: ["DOOM"] },
  },
  OFFERED: {
    ACKED: { next: "HELD", effects: ["DROP_COPIES"] },
    RETAINED: { next: "HELD", effects: [] },
    END: { next: "RELEASING", effects: ["PROVE"] },
    REMOVED: { next: "RELEASING", effects: ["PROVE"] },
  },
  HELD: {
    END: { next: "RELEASING", effects: ["PROVE"] },
    REMOVED: { next: "RELEASING", effects: ["PROVE"] },
  },
  RELEASING: {
    PROVEN: { next: "RESETTING", effects: ["RESET"] },
    NOT_PROVEN: { next: "QUARANTINED", effects: ["QUARANTINE"] },
    REMOVED: { next: "REMOVED", effects: ["UNLOCK"] },
  },
  RESETTING: {
    RESET_OK: { next: "FREE", effects: ["UNLOCK"] },
    RESET_FAILED: { next: "QUARANTINED", effects: ["QUARANTINE"] },
    REMOVED: { next: "REMOVED", effects: ["UNLOCK"] },
  },
  QUARANTINED: {
    RETRY: { next: "RELEASING", effects: ["PROVE"] },
    REMOVED: { next: "REMOVED", effects: ["UNLOCK"] },
  },
  // A device that comes back is a new one: the inventory starts it as FREE.
  REMOVED: {},
  // No client has anything of it. Devices may come and go meanwhile, virtual functions do: the set is over when the kernel has finished.
  REBINDING: {
    REBIND_LATE: { next: "REBINDING", effects: [] },
    REBOUND: { next: "FREE", effects: ["UNLOCK"] },
  },
};

/** The row for an event in a state, or null when the event cannot happen there (it is then late, and must change nothing). */
export function transition(state: LeaseState, event: LeaseEvent): Transition | null {
  return TABLE[state][event] ?? null;
}

export const LEASE_STATES = Object.keys(TABLE) as readonly LeaseState[];
