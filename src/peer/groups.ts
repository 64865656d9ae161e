// Supplementary groups of the process behind a connection, as the kernel noted them at connect time.

import { native } from "../native.js";

/**
 * A process can have 65,536 groups (NGROUPS_MAX), and a user with a range of subordinate gids can make one that does: 256 KiB for each connection. Directories of
 * large companies give a few hundred. A process with more than this has none as far as policy goes, only its primary group.
 */
export const MOST_GROUPS = 4_096;

/** null: more than MOST_GROUPS, or the kernel does not say. */
export function groupsOf(connection: number): readonly number[] | null {
  return native.peerGroups(connection, MOST_GROUPS).value;
}
