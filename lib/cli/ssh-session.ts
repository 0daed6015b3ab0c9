// The SSH sessions that rules must not cut off.
import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { canonicalAddress } from '../address.ts';
import { planRules, type RulesConfig } from '../rules/index.ts';

const SSH_PORT = 22;
const ESTABLISHED = '01';

function readText(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

/** SSH_CONNECTION of the processes above this one: sudo clears it for those below. */
function* ofParents(proc: string): Generator<string> {
  let pid = process.ppid;
  while (pid > 1) {
    const [, session] = /(?:^|\0)SSH_CONNECTION=([^\0]+)/.exec(readText(`${proc}/${pid}/environ`)) ?? [];
    if (session !== undefined) yield session;
    pid = Number(/^PPid:\t(\d+)$/m.exec(readText(`${proc}/${pid}/status`))?.[1] ?? 0);
  }
}

/** An address as /proc/net/tcp and tcp6 write it: 32-bit words, each in the byte order of the host. */
function readAddress(hex: string): string {
  const words = Uint32Array.from(hex.match(/.{8}/g)!, (word) => Number.parseInt(word, 16));
  const bytes = new Uint8Array(words.buffer);
  if (bytes.length === 4) return bytes.join('.');
  return canonicalAddress(Buffer.from(bytes).toString('hex').match(/.{4}/g)!.join(':'))!;
}

const CONNECTION = /^ *\d+: ([0-9A-F]+):([0-9A-F]{4}) ([0-9A-F]+):([0-9A-F]{4}) (\d\d) /gm;

/** Established connections to this host's port 22, in the form of SSH_CONNECTION. */
function* established(proc: string): Generator<string> {
  const text = readText(`${proc}/net/tcp`) + readText(`${proc}/net/tcp6`);
  for (const [, local, port, peer, peerPort, state] of text.matchAll(CONNECTION)) {
    if (state !== ESTABLISHED || Number.parseInt(port!, 16) !== SSH_PORT) continue;
    yield `${readAddress(peer!)} ${Number.parseInt(peerPort!, 16)} ${readAddress(local!)} ${SSH_PORT}`;
  }
}

/** The sessions of this host: that of the environment; if it names none, those that can be found otherwise. */
export function sshSessions(fromEnvironment = process.env['SSH_CONNECTION'], proc = '/proc'): string[] {
  // Empty: the caller says that there is none to be kept.
  if (fromEnvironment !== undefined) return fromEnvironment === '' ? [] : [fromEnvironment];
  const interfaces = Object.values(networkInterfaces()).flatMap((addresses) => addresses!);
  const own = new Set<string | undefined>(interfaces.map(({ address }) => address));
  // A session on the host of this network namespace is not one in it.
  const parents = [...ofParents(proc)].filter((session) =>
    own.has(canonicalAddress(session.split(' ')[2] ?? '')),
  );
  return [...new Set([...parents, ...established(proc)])];
}

/**
 * Refuses a configuration whose rules would capture connections like those of an SSH session of this host.
 *
 * @throws `ERR_RULES_SSH`
 */
export function keepSessions(config: RulesConfig): void {
  if (config.sshConnection !== undefined) return;
  for (const sshConnection of sshSessions()) planRules({ ...config, sshConnection });
}
