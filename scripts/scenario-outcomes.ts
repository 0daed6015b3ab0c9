// Reads what the scenarios program has printed.
import type { ScenarioOutcome } from '../test/fixtures/programs/scenarios.ts';

/** What test/fixtures/programs/scenarios.ts has printed, other output in between or not. */
export function readScenarios(output: string): ScenarioOutcome[] {
  const lines = output.split(/\r?\n/).filter((line) => line.startsWith('{"name":'));
  return lines.map((line) => JSON.parse(line) as ScenarioOutcome);
}
