// What the sidecar counts besides what its servers do, for Prometheus.
import { Counter, Gauge, Registry } from 'prom-client';

/** Of everything that `/metrics` shows. */
export const registry = new Registry();
const registers = [registry];

/** A number that only grows. */
export function counter<Label extends string>(
  name: string,
  help: string,
  ...labelNames: Label[]
): Counter<Label> {
  return new Counter({ name, help, labelNames, registers });
}

/** A number that is asked for when the page is. */
export function gauge(name: string, help: string, read: () => number): void {
  const made: Gauge = new Gauge({ name, help, registers, collect: () => made.set(read()) });
}
