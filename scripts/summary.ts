// The closing table of a check that has several parts.

export interface Outcome {
  name: string;
  /** Empty: passed. */
  problems: readonly string[];
  details?: string;
  /** Why it did not run; neither passed nor failed. */
  skipped?: string;
}

/** Prints the outcomes as a table, problems below it, `N passed, N failed, N skipped` last; sets the exit code. */
export function summary(outcomes: readonly Outcome[]): void {
  const width = Math.max(...outcomes.map(({ name }) => name.length));
  console.log('');
  for (const { name, problems, details = '', skipped } of outcomes) {
    const verdict = skipped !== undefined ? 'skipped' : problems.length > 0 ? 'FAILED' : 'passed';
    console.log(`${name.padEnd(width)}  ${verdict.padEnd(7)}  ${skipped ?? details}`);
    for (const problem of problems) console.log(`${' '.repeat(width)}  ${problem}`);
  }
  const failed = outcomes.filter(({ problems }) => problems.length > 0).length;
  const skipped = outcomes.filter((outcome) => outcome.skipped !== undefined).length;
  console.log(`\n${outcomes.length - failed - skipped} passed, ${failed} failed, ${skipped} skipped`);
  if (failed > 0) process.exitCode = 1;
}
