// DNS messages (RFC 1035, EDNS: RFC 6891) as a forwarder reads and writes them.
import type * as dns from 'dns-packet';
import { familyOf } from '../address.ts';
import { readName } from '../names/wire-name.ts';
import { dnsPacket } from '../node/on-demand.ts';

/** What is asked. */
export interface DnsQuestion {
  /** As it was written, without the dot of the root. It may hold any byte: it comes from the network. */
  name: string;
  /** `A`, `AAAA`, `HTTPS`, `SVCB`, `TXT`, …; `UNKNOWN_N` for type N. */
  type: string;
}

/** A question that can be passed on or answered. */
export interface Query {
  readonly question: DnsQuestion;
  readonly id: number;
  readonly flags: number;
  readonly asked: dns.Question;
  /** How long an answer by UDP may be. */
  readonly room: number;
  /** Did it come with EDNS, and does it want DNSSEC's records? */
  readonly edns: { dnssec: boolean } | undefined;
}

export const RCODE = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, REFUSED: 5 } as const;

const HEADER = 12;
const RESPONSE = 0x80;
/** Of the header's flags; 0 is QUERY. */
const OPCODE = 0x7800;
const DNSSEC_OK = 1 << 15;
/** A question and OPT with a few options. What is longer could keep a decoder busy with names that point to names. */
const LONGEST_QUERY = 1024;
const NAMES: Readonly<Record<string, string>> = { UNKNOWN_64: 'SVCB', UNKNOWN_65: 'HTTPS' };

/** A header that says no: what cannot be decoded cannot be encoded either. */
export function refusal(query: Buffer, rcode: number): Buffer {
  const header = Buffer.alloc(HEADER);
  query.copy(header, 0, 0, 4);
  header[2] = header[2]! | RESPONSE;
  header[3] = rcode;
  return header;
}

function decode(message: Buffer): dns.DecodedPacket | undefined {
  if (message.length > LONGEST_QUERY) return undefined;
  try {
    return dnsPacket().decode(message);
  } catch {
    return undefined;
  }
}

/** A query; an answer to what is none; or undefined for what is not worth an answer. */
export function readQuery(message: Buffer): Query | Buffer | undefined {
  if (message.length < HEADER || (message[2]! & RESPONSE) !== 0) return undefined;
  const packet = decode(message);
  const [asked, ...more] = packet?.questions ?? [];
  if (packet === undefined || asked === undefined || more.length > 0) return refusal(message, RCODE.FORMERR);
  // The decoder makes the same text of a dot between labels and of one inside a label, and of all that is not UTF-8.
  const name = readName(message, HEADER)?.name;
  if (name === undefined || name !== (asked.name === '.' ? '' : asked.name))
    return refusal(message, RCODE.FORMERR);
  const type = NAMES[asked.type] ?? asked.type;
  // Zones are not carried over, and other classes are about the resolver itself.
  if ((packet.flags! & OPCODE) !== 0 || asked.class !== 'IN' || type === 'AXFR' || type === 'IXFR')
    return refusal(message, RCODE.REFUSED);
  // Nor does the encoder write every name as it was: it drops a dot ahead of a label that begins with a line break.
  const written = dnsPacket()
    .encode({ type: 'query', questions: [asked] })
    .subarray(HEADER);
  if (!written.equals(message.subarray(HEADER, HEADER + written.length)))
    return refusal(message, RCODE.FORMERR);
  const opt = packet.additionals!.find((record) => record.type === 'OPT') as dns.OptAnswer | undefined;
  return {
    question: { name, type },
    id: packet.id!,
    flags: packet.flags!,
    asked,
    room: Math.max(512, opt?.udpPayloadSize ?? 0),
    edns: opt && { dnssec: (opt.flags & DNSSEC_OK) !== 0 },
  };
}

function optRecord(size: number, dnssec: boolean): dns.Answer {
  return {
    name: '.',
    type: 'OPT',
    udpPayloadSize: size,
    extendedRcode: 0,
    ednsVersion: 0,
    flags: dnssec ? DNSSEC_OK : 0,
    options: [],
  } as never;
}

/** The question to a resolver: what was asked and nothing else of what the client has sent along. */
export function encodeQuery({ asked, flags, edns, room }: Query, id: number): Buffer {
  const { RECURSION_DESIRED, AUTHENTIC_DATA, CHECKING_DISABLED, encode } = dnsPacket();
  return encode({
    type: 'query',
    id,
    flags: flags & (RECURSION_DESIRED | AUTHENTIC_DATA | CHECKING_DISABLED),
    questions: [asked],
    additionals: edns ? [optRecord(room, edns.dnssec)] : [],
  });
}

/** An answer of our own, at most `room` bytes long: else it says that it is cut, and the client comes by TCP. */
export function encodeAnswer(
  { question, asked, id, flags, edns }: Query,
  rcode: number,
  { addresses, ttl }: { addresses: readonly string[]; ttl: number },
  room: number,
): Buffer {
  const { RECURSION_AVAILABLE, RECURSION_DESIRED, TRUNCATED_RESPONSE, encode } = dnsPacket();
  const encoded = (answers: dns.Answer[], more: number): Buffer =>
    encode({
      type: 'response',
      id,
      flags: RECURSION_AVAILABLE | (flags & RECURSION_DESIRED) | rcode | more,
      questions: [asked],
      answers,
      additionals: edns ? [optRecord(1232, edns.dnssec)] : [],
    });
  const whole = encoded(
    addresses
      .map((data) => ({ type: familyOf(data) === 'IPv4' ? ('A' as const) : ('AAAA' as const), data }))
      .filter(({ type }) => type === question.type)
      .map((record) => ({ ...record, name: asked.name, ttl: Math.ceil(ttl / 1000) })),
    0,
  );
  return whole.length <= room ? whole : encoded([], TRUNCATED_RESPONSE);
}

/** Does the message answer what was sent: the same id, the same question? */
export function answers(message: Buffer, sent: Buffer): boolean {
  const end = readName(sent, HEADER)!.end + 4;
  if (message.length < end || message.readUInt16BE() !== sent.readUInt16BE()) return false;
  if ((message[2]! & RESPONSE) === 0 || message.readUInt16BE(4) !== 1) return false;
  const question = (of: Buffer): string => of.toString('latin1', HEADER, end).toLowerCase();
  return question(message) === question(sent);
}

/** Cuts a stream into messages, each of which has two bytes of length before it (RFC 1035, 4.2.2). */
export class MessageCutter {
  #left = Buffer.alloc(0);

  push(chunk: Buffer): Buffer[] {
    this.#left = Buffer.concat([this.#left, chunk]);
    const messages: Buffer[] = [];
    while (this.#left.length >= 2) {
      const end = 2 + this.#left.readUInt16BE();
      if (this.#left.length < end) break;
      messages.push(this.#left.subarray(2, end));
      this.#left = this.#left.subarray(end);
    }
    return messages;
  }
}

/** The same for one message, the other way round. */
export function framed(message: Buffer): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(message.length);
  return Buffer.concat([length, message]);
}
