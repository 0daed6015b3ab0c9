// Has this process the rights that interception needs?
import { once } from 'node:events';
import { createServer } from 'node:net';
import { systemError } from '../../errors.ts';
import { socketFd } from '../../node/socket-fd.ts';
import type { Check } from '../context.ts';
import { Findings } from '../finding.ts';
import type { Host } from '../host.ts';

const finding = new Findings('capabilities');

const CAP_NET_ADMIN = 12n;
const CAP_NET_RAW = 13n;

/** Is it, by its number in capabilities(7), in this process' effective set? */
export function hasCapability(host: Host, bit: bigint): boolean {
  const hex = /^CapEff:\s*([0-9a-f]+)$/m.exec(host.read('/proc/self/status') ?? '')?.[1] ?? '0';
  return ((BigInt(`0x${hex}`) >> bit) & 1n) === 1n;
}

function held(host: Host): string[] {
  const names = { CAP_NET_ADMIN, CAP_NET_RAW };
  return Object.entries(names).flatMap(([name, bit]) => (hasCapability(host, bit) ? [name] : []));
}

/** Sets the option on a socket of our own for a moment: a capability of the wrong user namespace is worth nothing. */
async function transparentRefused(host: Host): Promise<Error | undefined> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    const status = host.binding().setTransparent(socketFd(server)!, true);
    return status === 0
      ? undefined
      : systemError(status, { syscall: 'setsockopt', option: 'IP_TRANSPARENT' });
  } finally {
    server.close();
  }
}

/** capabilities(7): may this process set IP_TRANSPARENT and SO_MARK? REDIRECT needs neither. */
export const capabilities: Check = async (context) => {
  const { host, subject } = context;
  let refused: Error | undefined;
  try {
    refused = await transparentRefused(host);
  } catch {
    return []; // no addon; that is a finding of its own
  }
  const names = held(host);
  const has = names.length === 0 ? 'neither CAP_NET_ADMIN nor CAP_NET_RAW' : names.join(' and ');
  if (refused === undefined) {
    return [finding.ok('this process may use TPROXY, marks and foreign source addresses', `It has ${has}.`)];
  }
  const detail =
    `It has ${has}; ${refused.message.split(' (')[0]}. REDIRECT works without any capability; ` +
    `TPROXY, SO_MARK and foreign source addresses do not. For one run use ` +
    `\`setpriv --inh-caps=+net_admin --ambient-caps=+net_admin node …\`; in a container add NET_ADMIN.`;
  const remedy = `setcap cap_net_admin+ep ${host.program}`;
  const title = 'this process may not set IP_TRANSPARENT';
  if (await context.tproxyWanted()) return [finding.problem(title, detail, remedy)];
  if (subject.mode === 'redirect') return [finding.ok(`${title}, and need not`, detail)];
  return [finding.warning(title, detail, remedy)];
};
