"""Small models as MJCF, made from parts."""

import mujoco

from taichi_sim import mjcf

# Whether this is a MuJoCo before release 4, which has less, and other ways of some things.
BEFORE_4 = int(mujoco.__version__.split(".")[0]) < 4
NO_CONTACT = 'contact="disable"'


def mjcf_text(*, world="", body="", joint="", inside="", option="", flag=NO_CONTACT, rest=""):
    """A hinged sphere of 2 kg, with attributes and elements added at each level."""
    return f"""<mujoco model="snippet">
  <compiler angle="radian"/>
  <option {option}>
    <flag {flag}/>
  </option>
  <worldbody>
    {world}
    <body name="arm" {body}>
      <joint name="elbow" axis="0 1 0" {joint}/>
      <geom name="fist" size="0.1" mass="2" pos="1 0 0"/>
      {inside}
    </body>
  </worldbody>
  {rest}
</mujoco>"""


def load_text(text):
    return mjcf.load(mujoco.MjSpec.from_string(text))
