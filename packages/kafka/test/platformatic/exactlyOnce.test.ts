import { exactlyOnce } from "../exactlyOnce/exactlyOnce.ts"

exactlyOnce("platformatic")
