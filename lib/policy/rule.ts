// One rule of a NamePolicy, as it is written and as it is asked.
import { addressBits, canonicalAddress, familyOf } from '../address.ts';
import { codedError, type CodedError } from '../errors.ts';
import { writtenName } from '../host-name.ts';
import type { FirstBytes } from '../names/first-bytes.ts';
import type { QuicFirstBytes } from '../names/quic.ts';

/**
 * What a connection speaks, as far as it is known: the words of {@link FirstBytes} and {@link QuicFirstBytes}, and
 * `'tcp'` where nobody has looked.
 */
export type PolicyProtocol = 'tcp' | FirstBytes['protocol'] | QuicFirstBytes['protocol'];

/** What else each protocol is, the narrowest first; a rule for one of these speaks of it too. */
const ALSO: Readonly<Record<PolicyProtocol, readonly PolicyProtocol[]>> = {
  tcp: [],
  udp: [],
  tls: ['tcp'],
  http: ['tcp'],
  // Whoever refuses HTTP in the clear does not mean one version of it.
  http2: ['http', 'tcp'],
  quic: ['udp'],
  other: ['tcp'],
  silent: ['tcp'],
};
export const PROTOCOLS = Object.keys(ALSO) as PolicyProtocol[];

export interface Rule {
  action: 'allow' | 'deny';
  /** As it was written. */
  text: string;
  /** `example.com`, `*.example.com`, `*`, or the family and the first bits of addresses: `IPv4 00001010`. */
  key: string;
  /** Does it speak of names? Else of addresses. */
  named: boolean;
  firstPort: number;
  lastPort: number;
  protocol: PolicyProtocol | undefined;
}

/** What else a rule may ask for. */
export interface Asked {
  port?: number | undefined;
  protocol?: PolicyProtocol | undefined;
}

function bad(text: string, why: string, hint: string): CodedError {
  return codedError('ERR_POLICY_RULE', `'${text}' is no rule of a policy: ${why}`, { hint });
}

/** The key of `10.0.0.0/8`, or undefined when it is no address at all. */
function addressKey(target: string, text: string): string | undefined {
  const [written = '', length, ...rest] = target.split('/');
  const address = written.includes('%') ? undefined : canonicalAddress(written);
  if (address === undefined || rest.length > 0) return undefined;
  const whole = familyOf(written) === 'IPv4' ? 32 : 128;
  if (length !== undefined && (!/^\d{1,3}$/.test(length) || Number(length) > whole))
    throw bad(text, `no prefix length from 0 to ${whole}`, 'write 10.0.0.0/8 or 2001:db8::/32');
  const bits = addressBits(address);
  // Of IPv4 written as IPv6 the first 96 bits say no more than that.
  const count = Number(length ?? whole) - (whole - bits.length);
  if (count < 0 || bits.slice(count).includes('1'))
    throw bad(text, 'it has bits set beyond its prefix length', 'write 10.0.0.0/8, not 10.0.0.1/8');
  return `${familyOf(address)} ${bits.slice(0, count)}`;
}

function nameKey(target: string, text: string): string {
  if (target === '*') return target;
  const [, wildcard = '', rest = ''] = /^(\*\.)?(.*)$/s.exec(target)!;
  const name = writtenName(rest);
  if (name !== undefined) return `${wildcard}${name}`;
  throw bad(
    text,
    'it names no host and no address',
    'write example.com, *.example.com, *, 10.0.0.0/8 or [2001:db8::]:443',
  );
}

/** `443`, `8000-8999`, nothing */
function ports(written: string | undefined, text: string): [first: number, last: number] {
  if (written === undefined) return [0, 65535];
  const [, first, last = first] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(written) ?? [];
  if (first === undefined || Number(first) > Number(last) || Number(last) > 65535)
    throw bad(text, 'it has no such port', 'write example.com:443 or example.com:8000-8999');
  return [Number(first), Number(last)];
}

/** Reads `target[:port[-port]][/protocol]`. */
export function parseRule(action: Rule['action'], text: string): Rule {
  const [, before = '', protocol] = /^(.*?)(?:\/([a-z]\w*))?$/s.exec(text.trim())!;
  if (protocol !== undefined && !Object.hasOwn(ALSO, protocol))
    throw bad(text, `there is no protocol ${protocol}`, `known are ${PROTOCOLS.join(', ')}`);
  // Two colons or more without brackets are an IPv6 address alone.
  const [, bracketed, plain, written] = /^(?:\[(.*)\]|([^:]*))(?::([^:]*))?$/s.exec(before) ?? [];
  const target = bracketed ?? plain ?? before;
  const ofAddress = addressKey(target, text);
  const [firstPort, lastPort] = ports(written, text);
  return {
    action,
    text,
    key: ofAddress ?? nameKey(target, text),
    named: ofAddress === undefined,
    firstPort,
    lastPort,
    protocol: protocol as PolicyProtocol | undefined,
  };
}

/** Does the rule, whose target is met, speak of that? Of what is not known it does not speak. */
export function speaksOf({ firstPort, lastPort, protocol: own }: Rule, { port, protocol }: Asked): boolean {
  const anyPort = firstPort === 0 && lastPort === 65535;
  if (!anyPort && (port === undefined || port < firstPort || port > lastPort)) return false;
  return own === undefined || own === protocol || (protocol !== undefined && ALSO[protocol].includes(own));
}

function width({ firstPort, lastPort }: Rule): number {
  return lastPort - firstPort;
}

/** 0: any protocol, 1: all of a transport, and so on to the narrowest. */
function detail({ protocol }: Rule): number {
  return protocol === undefined ? 0 : 1 + ALSO[protocol].length;
}

/** Orders rules of one target: fewer ports, then the narrower protocol, and of two that are alike `deny`. */
export function moreSpecificFirst(a: Rule, b: Rule): number {
  const refusals = Number(b.action === 'deny') - Number(a.action === 'deny');
  return width(a) - width(b) || detail(b) - detail(a) || refusals;
}
