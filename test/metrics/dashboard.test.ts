// examples/grafana-dashboard.json: asks for metrics that there are, by labels that they have.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { FAMILIES } from '../../lib/metrics/families.ts';
import { root } from '../../scripts/native.ts';

interface Panel {
  id: number;
  gridPos: { x: number; y: number; w: number; h: number };
  targets: { expr: string; legendFormat: string }[];
}

const { panels, templating } = JSON.parse(
  readFileSync(join(root, 'examples/grafana-dashboard.json'), 'utf8'),
) as { panels: Panel[]; templating: { list: { name: string }[] } };

t.test('every expression is about a metric of this package, or of the process', (t) => {
  const names = new Set(FAMILIES.map(({ name }) => `original_dst_${name}`));
  for (const { expr, legendFormat } of panels.flatMap(({ targets }) => targets)) {
    // A histogram is asked for by its buckets.
    const asked = [...expr.matchAll(/(original_dst_\w+?|process_\w+)(?:_bucket)?\{/g)].map(
      ([, name]) => name!,
    );
    t.ok(asked.length > 0, expr);
    for (const name of asked) t.ok(name === 'process_cpu_seconds_total' || names.has(name), name);
    const by = /sum by \((\w+)\)/.exec(expr)?.[1] ?? 'instance';
    for (const [, label] of legendFormat.matchAll(/\{\{(\w+)\}\}/g)) t.equal(label, by, expr);
  }
  t.end();
});

t.test('panels do not overlap, and have variables that there are', (t) => {
  t.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
  t.equal(new Set(panels.map(({ gridPos: { x, y } }) => `${x},${y}`)).size, panels.length);
  for (const { gridPos } of panels) t.ok(gridPos.x + gridPos.w <= 24);
  t.same(templating.list.map(({ name }) => name).sort(), ['datasource', 'instance']);
  t.end();
});
