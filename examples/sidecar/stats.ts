// Counters in Prometheus' text format (version 0.0.4).

type Labels = Record<string, string | number>;

interface Metric {
  readonly help: string;
  readonly type: 'counter' | 'gauge';
  readonly values: Map<string, number>;
}

const metrics = new Map<string, Metric>();

function metric(name: string, type: Metric['type'], help: string): Metric {
  const created: Metric = { help, type, values: new Map() };
  metrics.set(name, created);
  return created;
}

function key(labels: Labels): string {
  return Object.entries(labels)
    .map(([label, value]) => `${label}=${JSON.stringify(String(value))}`)
    .join(',');
}

/** A value that only grows. */
export function counter(name: string, help: string): (labels: Labels, by?: number) => void {
  const { values } = metric(name, 'counter', help);
  return (labels, by = 1) => {
    const at = key(labels);
    values.set(at, (values.get(at) ?? 0) + by);
  };
}

/** A value that is read when the page is asked for. */
export function gauge(name: string, help: string): (labels: Labels, value: number) => void {
  const { values } = metric(name, 'gauge', help);
  return (labels, value) => void values.set(key(labels), value);
}

/** A counter that somebody else counts: its value is set when the page is asked for. */
export function counterOf(name: string, help: string): (labels: Labels, value: number) => void {
  const { values } = metric(name, 'counter', help);
  return (labels, value) => void values.set(key(labels), value);
}

export function page(): string {
  const lines: string[] = [];
  for (const [name, { help, type, values }] of metrics) {
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
    for (const [labels, value] of values)
      lines.push(labels === '' ? `${name} ${value}` : `${name}{${labels}} ${value}`);
  }
  return `${lines.join('\n')}\n`;
}
