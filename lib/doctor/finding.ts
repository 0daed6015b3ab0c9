// What a check has to say.
/** `ok`: as it should be. `warning`: works, or may, with a catch. `problem`: interception does not work like this. */
export type Level = 'ok' | 'warning' | 'problem';

/** One thing that {@link diagnose} found out. */
export interface Finding {
  /** A stable name: `conntrack-table`, `policy-routing-ipv4`, … */
  id: string;
  level: Level;
  /** One line. */
  title: string;
  /** Plain sentences: what was seen and what follows from it. */
  detail: string;
  /** A shell command that mends it, or, where that takes a decision, shows what it is about. Never run by this package. */
  remedy?: string;
}

/** Makes the findings of one check, which all bear its name. */
export class Findings {
  readonly id: string;

  constructor(id: string) {
    this.id = id;
  }

  ok(title: string, detail: string): Finding {
    return { id: this.id, level: 'ok', title, detail };
  }

  warning(title: string, detail: string, remedy?: string): Finding {
    return this.#bad('warning', title, detail, remedy);
  }

  problem(title: string, detail: string, remedy?: string): Finding {
    return this.#bad('problem', title, detail, remedy);
  }

  #bad(level: Level, title: string, detail: string, remedy: string | undefined): Finding {
    return { id: this.id, level, title, detail, ...(remedy === undefined ? {} : { remedy }) };
  }
}

/** The worst level among findings. */
export function worst(findings: readonly Finding[]): Level {
  if (findings.some(({ level }) => level === 'problem')) return 'problem';
  return findings.some(({ level }) => level === 'warning') ? 'warning' : 'ok';
}
