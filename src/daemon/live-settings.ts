// Settings that a reload can change while the daemon runs: who obeys one reads it here each time.

import type { Config } from "./config.js";
import { SETTING_NAMES, SETTINGS, type SettingName, type Settings } from "./settings.js";

export interface Change {
  readonly name: SettingName;
  readonly from: string;
  readonly to: string;
}

export class LiveSettings {
  #now: Readonly<Settings>;

  constructor(settings: Readonly<Settings>) {
    this.#now = settings;
  }

  get now(): Readonly<Settings> {
    return this.#now;
  }

  /** Takes over what can change at run time, and says what has changed and what would need a restart. */
  apply({ settings }: Config): { readonly changed: readonly Change[]; readonly needsRestart: readonly Change[] } {
    const changed: Change[] = [];
    const needsRestart: Change[] = [];
    const next: Settings = { ...this.#now };
    for (const name of SETTING_NAMES) {
      if (settings[name] === this.#now[name]) continue;
      const change = { name, from: String(this.#now[name]), to: String(settings[name]) };
      if (!SETTINGS[name].live) {
        needsRestart.push(change);
        continue;
      }
      changed.push(change);
      Object.assign(next, { [name]: settings[name] });
    }
    this.#now = next;
    return { changed, needsRestart };
  }
}
