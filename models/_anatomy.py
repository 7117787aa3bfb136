"""Published sizes of the legs' muscles: peak force, fibre and tendon length, pennation."""

from __future__ import annotations

import dataclasses
import re

# Of a man of 75.337 kg and 1.70 m: peak force [N], optimal fibre length, slack length of the tendon [m], pennation
# [rad], and length of the fibre along its tendon as the body stands [optimal lengths]; parts of a muscle from the upper
# or front one on. Rajagopal, Dembia, DeMers, Delp, Hicks, Delp, "Full-Body Musculoskeletal Model for Muscle-Driven
# Simulation of Human Gait", IEEE Transactions on Biomedical Engineering 63(10), 2016, model Rajagopal2015: fibres of 21
# cadavers (Ward et al. 2009), forces from the volumes of 24 young people's muscles (Handsfield et al. 2014) at 0.6 MPa;
# the last column follows from the lengths of that model's paths, by OpenSim 4.6.
MASS = 75.337
_PARTS = {
    "Adductor_Brevis": [(626, 0.1031, 0.035, 0.115, 1.016)],
    "Adductor_Longus": [(917, 0.1082, 0.132, 0.138, 1.037)],
    "Adductor_Magnus": [
        (597, 0.1056, 0.040, 0.311, 0.720),
        (597, 0.1377, 0.047, 0.207, 0.704),
        (597, 0.1772, 0.087, 0.195, 0.765),
        (597, 0.1562, 0.216, 0.168, 0.787),
    ],
    "Bicep_Femoris_Longus": [(1313, 0.0976, 0.325, 0.176, 0.910)],
    "Bicep_Femoris_Short": [(557, 0.1103, 0.106, 0.264, 1.198)],
    "Extensor_Digitorum_Longus": [(603, 0.0693, 0.369, 0.218, 0.987)],
    "Extensor_Hallucis_Longus": [(286, 0.0748, 0.327, 0.197, 1.039)],
    "Flexor_Digitorum_Longus": [(423, 0.0446, 0.379, 0.225, 1.013)],
    "Flexor_Hallucis": [(908, 0.0527, 0.354, 0.258, 0.956)],
    "Gastrocnemius_Lateral_Head": [(1575, 0.0588, 0.376, 0.210, 1.216)],
    "Gastrocnemius_Medial_Head": [(3116, 0.0510, 0.399, 0.166, 1.137)],
    "Gluteus_Maximus": [
        (984, 0.1470, 0.049, 0.354, 0.970),
        (1406, 0.1570, 0.068, 0.367, 0.959),
        (948, 0.1670, 0.070, 0.382, 0.893),
    ],
    "Gluteus_Medius": [
        (1093, 0.0730, 0.056, 0.317, 0.886),
        (765, 0.0730, 0.065, 0.317, 0.910),
        (871, 0.0730, 0.045, 0.317, 0.905),
    ],
    "Gluteus_Minimus": [
        (374, 0.0680, 0.016, 0.175, 0.958),
        (395, 0.0560, 0.026, 0.000, 1.018),
        (447, 0.0380, 0.051, 0.017, 1.003),
    ],
    "Gracilis": [(281, 0.2278, 0.172, 0.172, 1.170)],
    "Peroneus_Brevis": [(521, 0.0454, 0.148, 0.205, 1.060)],
    "Peroneus_Longus": [(1115, 0.0508, 0.332, 0.248, 1.057)],
    "Piriformis": [(1030, 0.0260, 0.115, 0.175, 0.892)],
    "Psoas_Major": [(1427, 0.1169, 0.100, 0.216, 1.106)],
    "Rectus_Femoris": [(2192, 0.0759, 0.448, 0.217, 0.837)],
    "Sartorius": [(249, 0.4030, 0.124, 0.026, 1.145)],
    "Semimembranosus": [(2201, 0.0690, 0.348, 0.255, 0.927)],
    "Semitendinosus": [(591, 0.1930, 0.247, 0.241, 1.072)],
    "Soleus": [(6195, 0.0440, 0.277, 0.381, 1.047)],
    "Tensor_Fascia_Lata": [(411, 0.0950, 0.449, 0.052, 1.032)],
    "Tibialis_Anterior": [(1227, 0.0683, 0.240, 0.195, 0.958)],
    "Tibialis_Posterior": [(1730, 0.0378, 0.281, 0.226, 1.033)],
    "Vastus_Intermedius": [(1697, 0.0993, 0.202, 0.063, 0.805)],
    "Vastus_Lateralis": [(5149, 0.0994, 0.221, 0.253, 0.756)],
    "Vastus_Medialis": [(2748, 0.0968, 0.200, 0.422, 0.726)],
    "iliacus": [(1021, 0.1066, 0.096, 0.280, 1.047)],
}
# Strain of a tendon at the peak force: of the calf's, and of all others (docs/muscles.md).
_ACHILLES = "Soleus", "Gastrocnemius_Lateral_Head", "Gastrocnemius_Medial_Head"
_ACHILLES_STRAIN, _STRAIN = 0.10, 0.049
# Of passive forces, which begin at a fibre's optimal length in that model, later ones were fitted to measured passive
# moments: they begin with a strain of 0.15 (RajagopalLaiUhlrich2023: semimembranosus 0.154, tibialis anterior 0.159,
# tensor fasciae latae 0.157, semitendinosus 0.114).
_SLACK = 0.15
# The knee's extensors of that model hold a bent knee with 12 to 25 N m where relaxed people have 4 (Riener and Edrich
# 1999), most with the hip extended, as it is when a leg begins to swing.
_SLACKS = {"Rectus_Femoris": 0.5, "Vastus_Intermedius": 0.3, "Vastus_Lateralis": 0.3, "Vastus_Medialis": 0.3}


@dataclasses.dataclass
class Size:
    """Of one unit.

    | field | meaning |
    |---|---|
    | force | peak force [N] |
    | optimal | optimal fibre length [m] |
    | pennation | at that length [rad] |
    | standing | length of the fibre along its tendon as the body stands [optimal lengths] |
    | stretch | how far the tendon is stretched by the peak force [m] |
    | slack | strain of the fibre at which passive force begins |
    """

    force: float
    optimal: float
    pennation: float
    standing: float
    stretch: float
    slack: float


def sizes(units: list[str]) -> dict[str, Size]:
    """Sizes of units of legs, of those that are published.

    A muscle's units, `R_Soleus` and `R_Soleus1`, share its force alike, and the fibres of its parts in their order.

    Args:
      units: names of units of the source of `humanoid_mtu`, of both legs.
    """
    found = {}
    for side in "RL":
        for muscle, parts in _PARTS.items():
            own = [name for name in units if re.fullmatch(rf"{side}_{muscle}\d*", name)]
            strain = _ACHILLES_STRAIN if muscle in _ACHILLES else _STRAIN
            for k, name in enumerate(own):
                _, optimal, slack, pennation, standing = parts[k * len(parts) // len(own)]
                force = sum(part[0] for part in parts) / len(own)
                found[name] = Size(force, optimal, pennation, standing, strain * slack, _SLACKS.get(muscle, _SLACK))
    return found
