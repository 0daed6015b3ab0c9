// What the demo has shown, as text.
import { canonical } from './proxy.ts';
import type { Outcome, Scenario } from './scenarios.ts';
import { REDIRECT_PORT, TPROXY_PORT } from './stage.ts';
import { type Column, type Paint, table } from './table.ts';

const EXPLAINED: Record<Scenario['mode'], string> = {
  redirect: `REDIRECT to :${REDIRECT_PORT}. NAT rewrites the destination, conntrack remembers it, the server sees the proxy.`,
  tproxy: `TPROXY to :${TPROXY_PORT}. Nothing is rewritten, and the server sees the client’s own address.`,
  direct: 'DIRECT. Nobody redirected it: the client dialled the proxy itself, which hangs up.',
};

const COLUMNS: Column[] = [
  { title: ' ' },
  { title: 'traffic' },
  { title: 'client' },
  { title: '→ proxy hit at' },
  { title: '→ true destination' },
  { title: 'kind' },
  { title: 'bytes ↑', align: 'right' },
  { title: 'bytes ↓', align: 'right' },
  { title: 'server saw' },
];

function cells({ scenario, visit, told, faults }: Outcome): string[] {
  const mark = faults.length === 0 ? '✓' : '✗';
  const saw = told?.greeting.client ?? '-';
  if (visit === undefined) return [mark, scenario.traffic, scenario.client, '→ -', '→ -', '-', '-', '-', saw];
  const { acceptedAt, originalDst: found, up, down } = visit;
  const destination = found.kind === 'unknown' ? '?' : canonical(found.address, found.port);
  const bytes = [up, down].map((count) => count.toLocaleString('en').replaceAll(',', ' '));
  return [
    mark,
    scenario.traffic,
    scenario.client,
    `→ ${acceptedAt}`,
    `→ ${destination}`,
    found.kind,
    ...bytes,
    saw,
  ];
}

/** The whole result as text: a table in three parts, and under a line that is wrong what is wrong with it. */
export function report(outcomes: Outcome[], milliseconds: number, paint: Paint): string {
  const [header, ...lines] = table(COLUMNS, outcomes.map(cells)) as [string, ...string[]];
  const text: string[] = [];
  let mode: Scenario['mode'] | undefined;
  for (const [i, { scenario, faults }] of outcomes.entries()) {
    if (scenario.mode !== mode) {
      mode = scenario.mode;
      text.push('', paint('bold', EXPLAINED[mode]), paint('gray', header));
    }
    const line = lines[i]!;
    text.push(paint(faults.length === 0 ? 'green' : 'red', line.slice(0, 1)) + line.slice(1));
    for (const fault of faults) text.push(paint('red', `     ${fault}`));
  }
  const right = outcomes.filter(({ faults }) => faults.length === 0).length;
  const summary = `${right} of ${outcomes.length} connections as expected`;
  text.push(
    '',
    `${paint(right === outcomes.length ? 'green' : 'red', summary)} in ${(milliseconds / 1000).toFixed(1)} s`,
  );
  return text.join('\n');
}
