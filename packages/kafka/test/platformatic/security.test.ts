import * as Layer from "effect/Layer"
import * as Platformatic from "../../src/Platformatic.ts"
import { security } from "../security/suite.ts"

security({ name: "Platformatic", layer: Layer.orDie(Platformatic.layer) })
