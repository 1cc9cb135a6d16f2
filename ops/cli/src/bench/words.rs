//! Words of remarks, the most frequent first.

pub(super) const WORDS: &str = "\
    the and a of to with in is for on home this room large new kitchen bedroom bath living area \
    floor master walk closet garage yard open plan granite counters stainless appliances \
    fireplace covered patio deck private backyard mature trees view close schools shopping \
    downtown minutes access highway updated remodeled recently paint carpet tile hardwood \
    floors vaulted ceilings natural light spacious family dining formal breakfast bar island \
    pantry cabinets custom built shelves laundry upstairs downstairs main level primary suite \
    soaking tub separate shower double vanity walkout basement finished bonus office den loft \
    storage attic workshop shed fenced sprinkler system landscaped garden pool spa community \
    clubhouse trails park lake river creek pond waterfront dock boat mountain sunset sunrise \
    panoramic city skyline quiet street cul de sac corner lot acre acres oversized two three \
    four five story single ranch craftsman colonial tudor victorian contemporary modern \
    farmhouse cottage bungalow townhome condo duplex investment opportunity rental income \
    tenant occupied vacant move ready must see won't last priced sell motivated seller bring \
    offers showing appointment only lockbox call agent buyer verify information measurements \
    taxes dues association fee monthly annual includes water sewer trash insurance roof furnace \
    heater conditioner windows energy efficient solar panels insulation plumbing electrical \
    foundation inspection report available upon request disclosures attached title company \
    escrow closing possession flexible negotiable financing conventional cash veteran loan \
    assumable assistance credit warranty transferable builder construction completed permit \
    addition expanded converted guest quarters mother law entrance kitchenette wet wine cellar \
    theater media gym sauna elevator gated security cameras alarm keyless smart thermostat \
    wired ethernet fiber cable satellite parking spaces driveway circular concrete gravel \
    recreational vehicle barn stable pasture horses chickens orchard fruit vines berries \
    vegetable raised beds greenhouse rain barrel well septic propane tank generator wood stove \
    pellet radiant heat pump mini split ducted ceiling fans skylight transom bay french doors \
    sliding glass screened porch balcony terrace rooftop pergola gazebo pit barbecue grill \
    outdoor entertaining gatherings friends holidays memories charm character original details \
    crown molding wainscoting beams brick stone stucco siding shingle metal slate copper \
    gutters freshly newly beautifully lovingly carefully thoughtfully professionally designed \
    decorated maintained restored preserved appointed situated nestled located tucked perched \
    overlooking surrounded bordered steps blocks walkable transit station bus line commuter \
    rail airport university hospital library museum restaurants cafes boutiques groceries \
    market stadium beach golf course tennis courts playground elementary middle high district \
    award winning rated historic neighborhood established sought after desirable popular \
    growing rare find gem dream perfect ideal wonderful stunning gorgeous charming elegant cozy \
    bright airy warm inviting welcoming comfortable functional versatile generous ample \
    abundant extra plenty every each all most many several both other another plus also along \
    including featuring boasting offering providing leading opening flowing connecting \
    adjoining between near behind beside above below through throughout within from at by as it \
    its you your our their has have will can may be are was were been not no or but so than \
    then when where while until since before during over under again";
