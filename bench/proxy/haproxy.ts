// HAProxy's configuration: what it has in common, whatever it is to do, with what makes it fast: edge-triggered polling
// saves it two epoll_ctl(2) for each connection, and smart-accept and -connect a segment each.
import { writeFileSync } from 'node:fs';
import { maxConnections } from './measure.ts';
import type { Mode } from './topology.ts';

/** Writes the file, and returns the command. Lines of its sections `global` and `listen`. */
export function haproxy(
  mode: Mode,
  directory: string,
  port: number,
  { global = [], listen }: { global?: readonly string[]; listen: readonly string[] },
): string[] {
  const file = `${directory}/haproxy-${port}.cfg`;
  const lines = [
    'global',
    '  nbthread 1',
    '  expose-experimental-directives',
    '  tune.fd.edge-triggered on',
    `  maxconn ${maxConnections() - 400}`,
    ...global.map((line) => `  ${line}`),
    'defaults',
    '  mode tcp',
    '  option tcp-smart-accept',
    '  option tcp-smart-connect',
    '  timeout connect 5s',
    '  timeout client 900s',
    '  timeout server 900s',
    'listen proxy',
    `  bind 0.0.0.0:${port}${mode === 'tproxy' ? ' transparent' : ''}`,
    ...listen.map((line) => `  ${line}`),
  ];
  writeFileSync(file, `${lines.join('\n')}\n`);
  return ['haproxy', '-db', '-q', '-f', file];
}
