// Does somebody listen where the rules lead to, as they need it?
import type { Check, Context } from '../context.ts';
import { type Finding, Findings } from '../finding.ts';
import { type FoundListener, onLoopbackOnly, takesFamily } from '../found-listeners.ts';
import type { FoundRule } from '../found-rules.ts';

const finding = new Findings('listener');
const transparent = new Findings('listener-transparent');
const mptcp = new Findings('mptcp');

function reach(port: number, rules: readonly FoundRule[], listeners: readonly FoundListener[]): Finding {
  const places = [...new Set(rules.map(({ place }) => place))].join(', ');
  if (listeners.length === 0) {
    return finding.problem(
      `nobody listens at port ${port}`,
      places === ''
        ? 'The proxy is not running, or runs in another network namespace.'
        : `The rules in ${places} send connections there: they are refused, or, with TPROXY, go past.`,
      `ss -ltnp 'sport = :${port}'`,
    );
  }
  const addresses = listeners.map(({ address }) => address).join(' and ');
  const unserved = [4, 6].find(
    (family) =>
      rules.some(({ families }) => families.length === 1 && families[0] === family) &&
      !listeners.some((listener) => takesFamily(listener, family as 4 | 6)),
  );
  if (unserved !== undefined) {
    return finding.problem(
      `the listener at port ${port} does not take IPv${unserved}`,
      `It is bound to ${addresses}, and rules in ${places} send it IPv${unserved} connections, which are refused. Listen on ::, which takes both.`,
    );
  }
  const fromOutside = rules.find(({ kind, hooks }) => kind === 'redirect' && hooks.includes('prerouting'));
  if (fromOutside && listeners.every(onLoopbackOnly)) {
    return finding.problem(
      `the listener at port ${port} is bound to ${addresses}`,
      `REDIRECT in ${fromOutside.place} sends connections from outside to the address of the interface they came in on, where nobody listens. Listen on :: or 0.0.0.0.`,
    );
  }
  return finding.ok(`somebody listens at port ${port}`, `Bound to ${addresses}.`);
}

function transparency(port: number, listeners: readonly FoundListener[]): Finding {
  const lacking = listeners.filter((listener) => listener.transparent === false);
  if (lacking.length > 0) {
    return transparent.problem(
      `the listener at port ${port} is not transparent`,
      'TPROXY hands connections only to sockets with IP_TRANSPARENT; those to foreign addresses go past it and are lost. Use createServer({ transparent: true }), and grant CAP_NET_ADMIN.',
      `ss -ltnp --inet-sockopt 'sport = :${port}'`,
    );
  }
  if (listeners.some((listener) => listener.transparent === undefined)) {
    return transparent.warning(
      `it is not known whether the listener at port ${port} is transparent`,
      'This ss(8) does not show socket options; iproute2 5.10 does.',
    );
  }
  return transparent.ok(`the listener at port ${port} is transparent`, 'IP_TRANSPARENT is set.');
}

async function checkPort(context: Context, port: number, all: readonly FoundListener[]): Promise<Finding[]> {
  const listeners = all.filter((listener) => listener.port === port);
  const rules = (await context.rules()).rules.filter((rule) => rule.port === port);
  const findings = [reach(port, rules, listeners)];
  if (listeners.length === 0) return findings;
  const { mode } = context.subject;
  if (mode === undefined ? rules.some(({ kind }) => kind === 'tproxy') : mode === 'tproxy') {
    findings.push(transparency(port, listeners));
  }
  if (listeners.some((listener) => listener.mptcp)) {
    findings.push(
      mptcp.warning(
        `the listener at port ${port} speaks MPTCP`,
        'An accepted MPTCP socket does not answer SO_ORIGINAL_DST; only ctnetlink knows then, which needs CAP_NET_ADMIN. Node’s own servers are plain TCP; something wraps this one: start it without mptcpize, or, if it is written in Go, with GODEBUG=multipathtcp=0.',
      ),
    );
  }
  return findings;
}

/** sock_diag(7) against the rules: does somebody listen where they lead, at an address they reach, with what they need? */
export const listener: Check = async (context) => {
  const { port } = context.subject;
  const ports =
    port === undefined
      ? [...new Set((await context.rules()).rules.flatMap((rule) => rule.port ?? []))]
      : [port];
  if (ports.length === 0) return [];
  const listeners = await context.listeners();
  if (listeners === undefined) {
    return [
      finding.warning(
        'the listening sockets cannot be read',
        'There is no ss(8).',
        'apt-get install iproute2',
      ),
    ];
  }
  return (await Promise.all(ports.map((each) => checkPort(context, each, listeners)))).flat();
};
