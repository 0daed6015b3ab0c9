// Can a listed rule be given back to the tool that listed it? For apply, which brings back what was there if it fails.
import type { NftLines } from '../text/nftables.ts';

/**
 * A rule as this package writes it: words, sets and quoted texts, nothing that ends a rule, a chain or a table. `nft -f`
 * also obeys `include` and `define` where a rule may stand.
 */
const NFT_RULE =
  /^(?!(?:include|define|redefine|undefine|comment)\b)(?:[\w.,:/@!=<>&|*() -]|\{(?:[\w.,:/* -]|"[^"\p{Cc}]*")*\}|"[^"\p{Cc}]*")+$/u;
const NFT_HOOK = /^type (?:filter|nat|route) hook \w+ priority -?\d+; policy accept;$/;

/** Are these nothing but chains with such rules? */
export function nftRestorable(lines: NftLines): boolean {
  let inChain = false;
  for (const line of lines) {
    const begins = /^chain [\w-]+ \{$/.test(line);
    if (begins || line === '}') {
      if (inChain === begins) return false;
      inChain = begins;
    } else if (!inChain || !(NFT_HOOK.test(line) || NFT_RULE.test(line))) return false;
  }
  return !inChain;
}

/**
 * The options in the rules of this package. Others are not given back: `iptables-restore` obeys `--modprobe PROGRAM`
 * in a rule, and `iptables-save` prints the name of an interface as it is.
 */
const IPTABLES_OPTIONS = new Set(
  (
    '-s -d -i -o -p -m -j --sport --dport --dports --tcp-flags --dst-type --src-type --pkt-type --uid-owner --gid-owner ' +
    '--path --mark --ctstate --ctdir --transparent --comment --to-ports --on-port --on-ip --tproxy-mark --set-xmark ' +
    '--reject-with --save-mark --restore-mark --nfmask --ctmask --zone'
  ).split(' '),
);

const QUOTED = /"(?:\\["'\\]|[^"\\\p{Cc}])*"/gu;
const IPTABLES_WORDS = new RegExp(`^(?:(?:^| )(?:[^\\s"'\\p{Cc}]+|${QUOTED.source}))+$`, 'u');

/** Is it a rule of words and quoted texts, with no option but those? */
export function iptablesRestorable(rule: string): boolean {
  if (!IPTABLES_WORDS.test(rule)) return false;
  const words = rule.replaceAll(QUOTED, '""').split(' ');
  return words.every((word) => !word.startsWith('-') || IPTABLES_OPTIONS.has(word));
}
