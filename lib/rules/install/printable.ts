// Text of others on its way to people: an interface or a comment may hold sequences that a terminal obeys.

/** The text with everything spelt out that would not print as itself. Line breaks and tabs stay. */
export function printable(text: string): string {
  return text.replaceAll(
    /(?![\n\t])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu,
    (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`,
  );
}
