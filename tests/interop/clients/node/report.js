// One scenario's outcome as one line, and the checks that scenarios make.
import { isDeepStrictEqual, inspect } from 'node:util'
import { setTimeout as sleep } from 'node:timers/promises'

const LONGEST_SECONDS = 45
const LONGEST_REASON = 300
const PATIENCE_SECONDS = 20

/** The client lacks the feature. */
export class Skipped extends Error {}

/** The broker refused the feature cleanly. */
export class NotServed extends Error {}

/** Runs the scenarios, name to function, or those of them that `only` names. */
export async function run(scenarios, only) {
  for (const [name, scenario] of Object.entries(scenarios)) {
    if (only.length > 0 && !only.includes(name)) continue
    const started = Date.now()
    const late = sleep(LONGEST_SECONDS * 1000, `FAIL ${name}: not finished after ${LONGEST_SECONDS} s`, { ref: false })
    const line = await Promise.race([outcomeOf(name, scenario), late])
    console.log(line.split(/\s+/).join(' ').slice(0, LONGEST_REASON))
    console.error(`${name} took ${((Date.now() - started) / 1000).toFixed(1)} s`)
  }
  // What a scenario that hangs left behind must not keep the process.
  process.exit(0)
}

async function outcomeOf(name, scenario) {
  try {
    await scenario()
    return `PASS ${name}`
  } catch (failure) {
    if (failure instanceof Skipped) return `SKIP ${name}: ${failure.message}`
    if (failure instanceof NotServed) return `NOT_SERVED ${name}: ${failure.message}`
    console.error(failure)
    return `FAIL ${name}: ${said(failure)}`
  }
}

/** An error and those that it was made of. */
export function all(failure) {
  const { cause, error, errors = [], groups = [], partitions = [] } = failure
  const nested = [cause, error, ...errors, ...groups, ...partitions]
  return [failure, ...nested.filter(inner => inner instanceof Object).flatMap(all)]
}

export function said(failure) {
  return all(failure).filter(each => each instanceof Error).map(each => `${each.name}: ${each.message}`).join('; ')
}

export function check(holds, what) {
  if (!holds) throw new Error(what)
}

export function equal(expected, actual, what) {
  check(isDeepStrictEqual(expected, actual), `${what}: expected ${shown(expected)}, got ${shown(actual)}`)
}

function shown(value) {
  const text = inspect(value, { breakLength: Infinity, maxStringLength: 60 })
  return text.length < 120 ? text : `${text.slice(0, 120)}… (${text.length} characters)`
}

/** Waits until the condition holds; one that throws does not hold yet. */
export async function eventually(what, condition) {
  const deadline = Date.now() + PATIENCE_SECONDS * 1000
  let last
  while (Date.now() < deadline) {
    try {
      if (await condition()) return
      last = undefined
    } catch (failure) {
      last = failure
    }
    await sleep(20)
  }
  throw new Error(`not within ${PATIENCE_SECONDS} s: ${what}`, { cause: last })
}
