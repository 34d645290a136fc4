import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CliOnMemory } from './cli.fixture.ts';

const cli = new CliOnMemory();

void describe('live', () => {
  void test('colours and redrawing only on a terminal, never with NO_COLOR', async () => {
    assert.ok((await cli.onTerminal(['replication', 'list'], '')).includes('\x1b[32mnormal'));
    assert.ok(!(await cli.onTerminal(['replication', 'list'], '', { NO_COLOR: '1' })).includes('\x1b['));
  });

  void test('watch gives a line, or an object, for every update', async () => {
    const lines = await cli.followed(['replication', 'watch', 'web01', '--json'], 2, () =>
      cli.world.update('r1', { lagMs: 9000 }),
    );
    assert.deepEqual(
      lines.map((line) => (JSON.parse(line) as { lagMs: number }).lagMs),
      [3200, 9000],
    );
    const [text] = await cli.followed(['replication', 'watch'], 1, () => undefined);
    assert.match(text!, /web01 {2}Replicating {2}normal {2}lag 9\.0 s/);
  });

  void test('events are followed from those that were, without a gap', async () => {
    cli.world.addEvent('before');
    const lines = await cli.followed(['event', 'list', '--follow'], 2, () => cli.world.addEvent('after'));
    assert.match(lines.join('\n'), /test: before\n.*test: after/);
  });
});
