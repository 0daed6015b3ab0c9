// How the programs of bench/udp.ts tell what they have done.

/** Prints the port, then, for each line on standard input, what `take` gives and the CPU time since the line before. */
export function tell(port: number, take: () => Record<string, number>): void {
  console.log(port);
  let before = process.cpuUsage();
  process.stdin.on('data', () => {
    const { user, system } = process.cpuUsage(before);
    console.log(JSON.stringify({ ...take(), cpu: user + system }));
    before = process.cpuUsage();
  });
  process.stdin.on('end', () => process.exit());
}
