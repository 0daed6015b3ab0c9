// Which addresses a DNS answer gives for the name that was asked.
import type * as dns from 'dns-packet';
import { canonicalAddress } from '../address.ts';
import { canonicalName } from '../host-name.ts';
import { dnsPacket } from '../node/on-demand.ts';
import { readName } from './wire-name.ts';

/** An address that a name has, and for how long. */
export interface NamedAddress {
  address: string;
  /** Milliseconds. */
  ttl: number;
}

/** What a DNS answer says of a name. */
export interface NamedAddresses {
  /** The name that was asked, whatever aliases led on from there. */
  name: string;
  addresses: NamedAddress[];
}

/** RFC 9460, which dns-packet knows by their numbers only. */
const SERVICE_TYPES: ReadonlySet<string> = new Set(['UNKNOWN_64', 'UNKNOWN_65', 'SVCB', 'HTTPS']);
const [RCODE, NOERROR] = [0xf, 0];
const IPV4_HINT = 4;
const IPV6_HINT = 6;

type Records = readonly { name: string; type: string; ttl: number; data?: unknown }[];

const lower = (name: string): string => name.toLowerCase();

/** RFC 9460, 2.2: the target's name, and the addresses in its parameters. Undefined for what is no such record. */
export function readService(data: Buffer): { target: string; hints: string[] } | undefined {
  const target = readName(data, 2);
  if (!target) return undefined;
  const hints: string[] = [];
  for (let { end: at } = target; at < data.length;) {
    if (at + 4 > data.length) return undefined;
    const [key, length] = [data.readUInt16BE(at), data.readUInt16BE(at + 2)];
    const value = data.subarray(at + 4, at + 4 + length);
    if (value.length < length) return undefined;
    if (key === IPV4_HINT) {
      for (let i = 0; i + 4 <= length; i += 4) hints.push([...value.subarray(i, i + 4)].join('.'));
    }
    if (key === IPV6_HINT) {
      for (let i = 0; i + 16 <= length; i += 16) {
        const words = Array.from({ length: 8 }, (_, word) => value.readUInt16BE(i + 2 * word).toString(16));
        hints.push(words.join(':'));
      }
    }
    at += 4 + length;
  }
  return { target: target.name, hints };
}

/** `_8443._https.example.com` is asked for a connection to `example.com` (RFC 9460, 2.3). */
export function askedFor(question: string): string | undefined {
  return canonicalName(question.replace(/^(?:_[^.]*\.)+/, ''));
}

/**
 * The addresses of an answer that belong to its question: of the name itself, of those that its aliases lead to, and
 * of the services that these name. Records about anything else say nothing here.
 *
 * @returns undefined for what is no answer, or says nothing of a name's addresses
 */
export function answerAddresses(message: Buffer): NamedAddresses | undefined {
  let packet: dns.DecodedPacket;
  try {
    packet = dnsPacket().decode(message);
  } catch {
    return undefined;
  }
  const [question, ...more] = packet.questions!;
  if (packet.type !== 'response' || question === undefined || more.length > 0) return undefined;
  const name = askedFor(question.name);
  if (name === undefined || (packet.flags! & RCODE) !== NOERROR) return undefined;
  const records = [...packet.answers!, ...packet.additionals!] as unknown as Records;
  const owners = new Set([lower(question.name)]);
  const addresses: NamedAddress[] = [];
  const add = (text: string, ttl: number): void => {
    const address = canonicalAddress(text);
    if (address !== undefined) addresses.push({ address, ttl: ttl * 1000 });
  };
  // A set that grows while it is walked: chains come in any order, and may be loops.
  for (const owner of owners) {
    for (const { name: of, type, ttl, data } of records) {
      if (lower(of) !== owner) continue;
      if (type === 'A' || type === 'AAAA') add(data as string, ttl);
      else if (type === 'CNAME') owners.add(lower(data as string));
      else if (SERVICE_TYPES.has(type)) {
        const service = readService(data as Buffer);
        if (service && service.target !== '') owners.add(lower(service.target));
        for (const hint of service?.hints ?? []) add(hint, ttl);
      }
    }
  }
  return { name, addresses };
}
