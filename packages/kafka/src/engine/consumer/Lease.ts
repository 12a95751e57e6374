/**
 * A member holds its partitions on a lease: the group may have given it up once no heartbeat of its own was answered for
 * the session timeout. A process that was frozen, or a network that was cut, notices that by its clock before the
 * coordinator can say so. Pure: times in, answers out, in milliseconds.
 */
export class Lease {
  private readonly sessionTimeout: number
  /** When the last request was sent whose answer confirmed the membership: the coordinator has seen it later. */
  private confirmedAt: number | undefined = undefined

  constructor(sessionTimeout: number) {
    this.sessionTimeout = sessionTimeout
  }

  /**
   * The coordinator has answered. Whether the lease was over before, and is not any more.
   *
   * @param millis how long the answer took, or lay about unread
   */
  confirm(now: number, millis: number): boolean {
    const before = this.isOver(now)
    this.confirmedAt = now - Math.max(0, millis)
    return before && !this.isOver(now)
  }

  /** Whether somebody else may own the partitions. Never before the first confirmation: outside of groups there is none. */
  isOver(now: number): boolean {
    return this.confirmedAt !== undefined && now - this.confirmedAt >= this.sessionTimeout
  }

  /** Whether it was confirmed so lately that it stays good for a while. */
  isFresh(now: number): boolean {
    return this.confirmedAt !== undefined && now - this.confirmedAt < this.sessionTimeout / 2
  }
}
