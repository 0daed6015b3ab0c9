// Host names as values: one spelling for each.
import { domainToASCII } from 'node:url';

const LABEL = /^[a-z0-9_-]{1,63}$/;
/** What inet_aton(3), and so getaddrinfo(3), takes for a part of an address: `127.1`, `0x7f000001`. */
const NUMBER = /^(?:\d+|0x[0-9a-f]*)$/;

/**
 * The one spelling of a host name, by which names are compared: lower case, without the dot of the root, in A-labels.
 *
 * @returns undefined for what is no host name: RFC 1123 with underscores, which service names have; at most 253
 *   octets; not the text of an address, nor what getaddrinfo(3) takes for one
 */
export function canonicalName(text: string): string | undefined {
  const name = text.toLowerCase().replace(/\.$/, '');
  if (name.length > 253) return undefined;
  const labels = name.split('.');
  if (!labels.every((label) => LABEL.test(label)) || NUMBER.test(labels.at(-1)!)) return undefined;
  return name;
}

/** The same for what people write: `bücher.example` is `xn--bcher-kva.example`. */
export function writtenName(text: string): string | undefined {
  // Of ASCII it would make an address where it can.
  return canonicalName(/^[\x20-\x7e]*$/.test(text) ? text : domainToASCII(text));
}
